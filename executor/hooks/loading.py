"""Finding the hooks of this installation: entry points, and classes named by ``WEGENT_HOOKS``."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any, Final

from executor.hooks.base import Hook
from executor.hooks.runner import HookSource
from shared.errors import ConfigError

GROUP: Final = "wegent_executor.hooks"
VARIABLE: Final = "WEGENT_HOOKS"


def load_hooks(named: Sequence[str]) -> list[HookSource]:
    """Import the hooks of installed packages, and those that are *named* ``module:Class``. Blocks.

    Raises:
        ConfigError: One cannot be imported, or is no hook. A hook that somebody relies on, for an
            audit for example, is not left out in silence.
    """
    installed = [
        _source(f"the entry point {point.name} in {GROUP}", point.name, point.load)
        for point in sorted(metadata.entry_points(group=GROUP), key=lambda point: point.name)
    ]
    return installed + [
        _source(f"{VARIABLE}: {name}", name, lambda name=name: _imported(name))  # type: ignore[misc] # called at once
        for name in named
    ]


def _imported(name: str) -> Any:
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found


def _source(where: str, name: str, load: Callable[[], Any]) -> HookSource:
    try:
        kind = load()
    except (Exception, SystemExit) as exc:  # somebody else's code raises what it likes
        raise ConfigError(
            f"{where} cannot be imported: {type(exc).__name__}: {exc}",
            hint="install it where this program runs, or take it out of the configuration",
        ) from exc
    if not (isinstance(kind, type) and issubclass(kind, Hook)):
        raise ConfigError(
            f"{where} is no hook", hint="a hook is a subclass of executor.hooks.base.Hook"
        )
    return HookSource(name, kind)
