"""Puts tests into an order in which the slowest makers need not be waited for, and starts them.

Two processes can share the tests, as in ``make test``: ``--share=systems`` has those from end to
end, of the built program and with an engine, so that each is made once; ``--share=parts`` the rest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Final

import pytest

from tests.fakes import docker_base, docker_place
from tests.fakes.ahead import made_ahead
from tests.fakes.built_program import GIVEN_BINARY
from tests.fakes.docker_engine import GIVEN

_NEEDED: Final = {
    "binary": ("binary",),
    "program_folder": ("folder",),
    "base_image": ("base",),
    "executor_image": ("folder", "base"),
}
"""What is made for each fixture."""

_SHARES: Final = {"systems": True, "parts": False}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--share", choices=list(_SHARES), help="run these tests only")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Unit tests first, which leave a processor idle, and tests of the built program last."""
    if share := config.getoption("--share"):
        others = [item for item in items if _of_systems(item) is not _SHARES[share]]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if _of_systems(item) is _SHARES[share]]
    items.sort(key=lambda item: (bool(_needs(item)), not item.nodeid.startswith("tests/unit/")))


@pytest.fixture(scope="session", autouse=True)
def _slow_things_are_made_ahead(request: pytest.FixtureRequest) -> Iterator[None]:
    first, *others = request.session.items
    what = set().union(*map(_needs, others))
    if _needs(first):  # it would only wait for a slower maker
        what.clear()
    if os.environ.get(GIVEN_BINARY):
        what.discard("binary")
    if os.environ.get(GIVEN) or docker_place.unavailable() or docker_base.unavailable():
        what.discard("base")
    with made_ahead(what):
        yield


def _of_systems(item: pytest.Item) -> bool:
    names: list[str] = getattr(item, "fixturenames", [])
    return item.nodeid.startswith("tests/e2e/") or bool({"docker_engine", *_NEEDED} & {*names})


def _needs(item: pytest.Item) -> set[str]:
    names: list[str] = getattr(item, "fixturenames", [])
    return {thing for name in names for thing in _NEEDED.get(name, ())}
