"""The guards of conftest.py bite, and the Makefile hands on what was typed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from blockbuster import BlockingError

from shared.logging import LogFile, configure_logging, get_logger
from shared.private_files import write_private_file
from shared.redaction import Redactor


async def test_a_blocking_call_of_ours_on_the_loop_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BlockingError):
        write_private_file(tmp_path / "file", "text")


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[Path]:
    """A log at DEBUG; its lines are there for certain once the test has ended."""
    file = tmp_path / "executor.log"
    logs = configure_logging(
        file=LogFile(file, max_bytes=10**6, backups=1),
        level="DEBUG",
        format="text",
        redactor=Redactor(),
    )
    yield file
    logs.close()
    assert "ValueError" in file.read_text()


async def test_logging_a_traceback_on_the_loop_blocks_nothing(log_file: Path) -> None:
    del log_file
    try:
        raise ValueError
    except ValueError:
        get_logger("x").exception("it failed")


def test_the_machine_does_not_show() -> None:
    assert list(Path.home().iterdir()) == []
    assert not [name for name in os.environ if name.startswith(("ANTHROPIC_", "WEGENT_"))]


def test_make_hands_prompt_and_repository_on_as_they_were_typed(
    repository_root: Path, tmp_path: Path
) -> None:
    probe = tmp_path / "Makefile"
    probe.write_text(
        f"include {repository_root / 'Makefile'}\n"
        "probe:\n\t@printenv PROMPT > prompt\n\t@printenv REPO > repo\n"
    )
    prompt = "fix $HOME $(shell touch made) `touch made` 'it' \"now\"; touch made #"

    subprocess.run(
        ["make", "--silent", "probe", f"PROMPT={prompt}", "REPO=../a b"], cwd=tmp_path, check=True
    )

    assert (tmp_path / "prompt").read_text() == f"{prompt}\n"
    assert (tmp_path / "repo").read_text() == "../a b\n"
    assert not (tmp_path / "made").exists()
