"""A terminal for what commands print."""

from __future__ import annotations

import pytest

from tests.fakes.terminal import Show, show_on_terminal


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Show:
    """Does some work and returns what a terminal of 80 columns with colours got of it."""
    for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    return show_on_terminal
