"""How a run looks on a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from scripts.follow import RunView


def test_what_is_typed_while_the_bar_is_away_stays() -> None:
    terminal = io.StringIO()
    with RunView(Console(file=terminal, force_terminal=True, width=80)) as view:
        with view.without_bar():
            shown = len(terminal.getvalue())
            terminal.write("typed\r\n")
        again, bar, _ = terminal.getvalue()[shown:].partition("waiting")
    assert again.startswith("typed")
    assert bar
    assert "\x1b[1A" not in again  # the cursor does not go up to where the bar was
