"""How ``--help`` is laid out."""

from __future__ import annotations

import argparse
import textwrap


class HelpFormatter(argparse.HelpFormatter):
    """Breaks lines at spaces only, and no line that is there to be copied.

    Paragraphs are parted by empty lines. One that begins with four spaces stands as it is, as in
    Markdown.
    """

    def add_argument(self, action: argparse.Action) -> None:
        """Add a line about *action*, and make room for it."""
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001  it has no other name
            # Names of commands are indented once more, which argparse does not reckon with.
            self._action_max_length += self._indent_increment

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(
            part if part.startswith("    ") else _wrapped(part, width, indent)
            for part in text.split("\n\n")
        )

    def _split_lines(self, text: str, width: int) -> list[str]:
        return _wrapped(text, width).splitlines()


def _wrapped(text: str, width: int, indent: str = "") -> str:
    return textwrap.fill(
        " ".join(text.split()),
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )
