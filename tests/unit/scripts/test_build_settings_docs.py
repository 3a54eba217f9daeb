"""The page of the settings says what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from executor.config.sources import VARIABLES
from scripts.build_settings_docs import page


def test_the_page_in_docs_is_what_the_definitions_say(repository_root: Path) -> None:
    written = (repository_root / "docs" / "settings.md").read_text(encoding="utf-8")

    assert written == page(), "write it anew: make docs"


def test_every_setting_is_there_once() -> None:
    assert sorted(re.findall(r"^\| `([A-Z0-9_]+)`", page(), re.MULTILINE)) == sorted(VARIABLES)


def test_the_page_is_the_same_whatever_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    before = page()
    monkeypatch.setenv("LOCAL_QUEUE_LIMIT", "7")
    monkeypatch.setenv("EXECUTOR_MODE", "docker")

    assert page() == before
