"""Whether the agent ``agno`` can be had here; for every start, so it loads nothing of it."""

from __future__ import annotations

import importlib.util
from typing import Final

NAME: Final = "agno"

REMEDY: Final = 'pip install "wegent-executor[agno]" (the packaged program has no agno in it)'
"""How to have agno where it is missing."""

_NEEDED: Final = ("agno", "anthropic", "openai", "mcp")


def is_installed() -> bool:
    """Whether agno can be had; imports nothing. Looks at the disk."""
    return all(importlib.util.find_spec(name) is not None for name in _NEEDED)
