"""Writes ``docs/settings.md`` from the definitions of the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from executor.config.docker import DockerSettings
from executor.config.home import default_home
from executor.config.loading import Settings, variables_of
from executor.config.local import LocalSettings

PAGE: Final = Path(__file__).resolve().parent.parent / "docs" / "settings.md"

_NOTE: Final = "<!-- Made by `make docs` from the definitions of the settings. -->"
_INTRODUCTION: Final = """\
From the environment; what is not there, from `config.env` in the home; otherwise the default.
`config.env` has `KEY=value` lines (quotes, comments and a leading `export` are fine) and may also
be sourced by a shell. It holds secrets: `chmod 600` it. An empty value counts as not set.
`wegent-executor config` shows what holds; proxies and private authorities have
[variables of their own](networks.md).

With `WEGENT_BACKEND_URL` and `WEGENT_AUTH_TOKEN` the executor connects to that backend and takes
its tasks: **local mode**. Without both it serves HTTP: **docker mode**, [whose API](http.md) needs
no container."""


def page() -> str:
    """The text of the page."""
    local, docker = variables_of(LocalSettings), variables_of(DockerSettings)
    parts = (
        ("Local mode", LocalSettings, [name for name in local if name not in docker]),
        ("Docker mode", DockerSettings, [name for name in docker if name not in local]),
        ("Both modes", LocalSettings, [name for name in local if name in docker]),
    )
    tables = "\n\n".join(f"## {title}\n\n{_table(kind, names)}" for title, kind, names in parts)
    return f"{_NOTE}\n\n# Settings of the executor\n\n{_INTRODUCTION}\n\n{tables}\n"


def _table(kind: type[Settings], variables: list[str]) -> str:
    attributes = variables_of(kind)
    rows = [_row(name, kind.model_fields[attributes[name]]) for name in variables]
    return "\n".join(("| Variable | Default | Meaning |", "|---|---|---|", *rows))


def _row(variable: str, field: FieldInfo) -> str:
    return f"| `{variable}` | {_default(variable, field)} | {field.description} |"


def _default(variable: str, field: FieldInfo) -> str:
    if variable == "EXECUTOR_MODE":
        return "-"  # each mode has its own
    if field.is_required():
        return "required"
    home = default_home()
    value = field.get_default(call_default_factory=True, validated_data={"home": home})
    if value is None or value is PydanticUndefined:
        return "-"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{value}`".replace(str(home.parent), "~")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
