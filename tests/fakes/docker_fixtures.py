"""What tests with containers ask for: ``docker_engine``, ``base_image`` and ``executor_image``.

A plugin, so that every test can have it. The first test that asks waits for it: the engine takes
seconds, the base and the image of the executor minutes when they are not in ``build`` already.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from scripts import build_image
from tests.fakes import docker_base
from tests.fakes.built_program import built_program, content_key
from tests.fakes.docker_engine import GIVEN, DockerEngine, own_engine
from tests.fakes.docker_place import CACHE, unavailable

FIRST_TEST_S: Final = 900
"""How long the first test may take that asks for something slow, and so has to wait for it."""

OTHER_TEST_S: Final = 180
"""Tests with containers are slower than most on a machine with much to do."""

_SLOW: Final = {"docker_engine", "base_image", "executor_image"}


@pytest.hookimpl(trylast=True)  # when it is known which tests come, and in which order
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests with an engine last, and give these times to those who have not said theirs.

    An engine is a process of this one: others, who look at all that is left, would find it.
    """
    items.sort(key=lambda item: bool(_asks(item)))  # keeps the order otherwise
    made: set[str] = set()
    for item in items:
        asks = _asks(item)
        if asks and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(OTHER_TEST_S if asks <= made else FIRST_TEST_S))
        made |= asks


def _asks(item: pytest.Item) -> set[str]:
    return _SLOW & set(getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[DockerEngine]:
    """A real engine; all tests share it."""
    if host := os.environ.get(GIVEN):
        yield DockerEngine(host)
        return
    if reason := unavailable():
        pytest.skip(f"NOTHING WAS TESTED with containers: {reason}; {GIVEN} can name an engine")
    with own_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def base_image(docker_engine: DockerEngine) -> str:
    """A small Debian, with bash, git and certificates, to be run as it is."""
    if reason := docker_base.unavailable():
        pytest.skip(f"NOTHING WAS TESTED with images: {reason}")
    return docker_base.base_image(docker_engine)


@pytest.fixture(scope="session")
def executor_image(docker_engine: DockerEngine, base_image: str) -> str:
    """The executor's image, as `make image` builds it, from the sources that are here."""
    made_of = content_key("docker", "scripts/build_image.py")
    name = f"wegent-executor-test:{made_of}-{base_image.rpartition(':')[2]}"
    if not docker_engine.has_image(name):
        program = built_program("--onedir") / "wegent-executor"
        with tempfile.TemporaryDirectory(prefix="context-", dir=CACHE) as place:
            context = Path(place, "context")
            build_image.prepare(context, program, build_image.claude())
            _, *arguments = build_image.Image(name, base_image, ()).command(context)
            docker_engine.docker(*arguments)
    return name


@pytest.fixture(autouse=True)
def _nothing_is_left_in_the_engine(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails the test that left a container, a volume or a network behind; they are removed.

    In an engine of somebody else, others come and go.
    """
    asks = _SLOW & set(request.fixturenames)
    engine = request.getfixturevalue("docker_engine") if asks else None
    if engine is None or not engine.owned:
        yield
        return
    before = engine.contents()
    yield
    if left := engine.contents() - before:
        engine.remove(left)
        pytest.fail(f"the test left things in the engine: {sorted(left)}")
