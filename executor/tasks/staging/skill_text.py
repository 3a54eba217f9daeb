"""A skill's SKILL.md with no more in its front matter than what describes it.

Front matter can also name hooks, which the CLI runs as commands past every wall, and tools that
nobody is asked about any more. Neither is a request's to give.
"""

from __future__ import annotations

import json
import re
from typing import Final

from executor.tasks.staging.fetching import Unusable

MAX_SKILL_BYTES: Final = 2**20

_KEPT: Final = frozenset(
    {
        "agent", "argument-hint", "arguments", "author", "compatibility", "context", "description",
        "disable-model-invocation", "license", "metadata", "model", "user-invocable", "version",
        "when_to_use",
    }
)  # fmt: skip
_FRONT_MATTER: Final = re.compile(
    r"\s*---[ \t]*\n(.*?)^---[ \t]*(?:\n|\Z)", re.DOTALL | re.MULTILINE
)
_KEY: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)[ \t]*:(?:[ \t]|$)")
_CONTINUES: Final = re.compile(r"[ \t]|- |-$|$")


def plain_skill(content: bytes, name: str) -> bytes:
    """*content* of a SKILL.md, called *name* and described as it says, and nothing else.

    Raises:
        Unusable: It is too long, or no text.
    """
    if len(content) > MAX_SKILL_BYTES:
        raise Unusable(f"SKILL.md is larger than {MAX_SKILL_BYTES} bytes")
    front, body = split_front_matter(_as_text(content))
    lines = ["---", f"name: {json.dumps(name)}", *_kept(front), "---", body]
    return "\n".join(lines).encode()


def split_front_matter(text: str) -> tuple[str, str]:
    """The lines between ``---`` at the start of *text*, and what comes after them."""
    match = _FRONT_MATTER.match(text)
    return (match[1], text[match.end() :]) if match is not None else ("", text)


def _as_text(content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Unusable("SKILL.md is not UTF-8") from None
    # Whatever a reader of YAML takes for the end of a line, so that no key hides behind one.
    return re.sub(r"\r\n|[\r\x0b\x0c\x85\u2028\u2029]", "\n", text)


def _kept(front: str) -> list[str]:
    kept: list[str] = []
    keeping = False
    for line in front.split("\n"):
        key = _KEY.match(line)
        if key is not None:
            keeping = key[1] in _KEPT
        elif not _CONTINUES.match(line):
            keeping = False  # a key written in a way that only a reader of YAML understands
        if keeping and line.strip():
            kept.append(line)
    return kept
