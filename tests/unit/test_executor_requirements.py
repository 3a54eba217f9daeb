"""What ``executor/requirements.txt`` installs is what is locked, and what the executor needs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path


def pins(file: Path) -> dict[str, str]:
    """Name and version of all that is locked in *file*."""
    return dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", file.read_text(), re.MULTILINE))


def test_the_executors_requirements_are_those_of_the_lock(repository_root: Path) -> None:
    locked = pins(repository_root / "requirements" / "dev.txt")
    executor = pins(repository_root / "executor" / "requirements.txt")

    assert len(executor) > 30
    assert {name: locked.get(name) for name in executor} == executor, "make requirements"


def test_all_that_the_executor_needs_is_there_and_nothing_of_other_programs(
    repository_root: Path,
) -> None:
    project = tomllib.loads((repository_root / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[\[<>=; ]", line)[0] for line in project["dependencies"]}
    executor = set(pins(repository_root / "executor" / "requirements.txt"))

    assert needed <= executor
    assert executor.isdisjoint({"pytest", "mypy", "ruff", "pyinstaller", "sqlalchemy", "agno"})


def test_every_requirement_has_its_checksums(repository_root: Path) -> None:
    text = (repository_root / "executor" / "requirements.txt").read_text()
    entries = re.split(r"^(?=[a-z0-9-]+==)", text, flags=re.MULTILINE)[1:]

    assert all("--hash=sha256:" in entry for entry in entries)
