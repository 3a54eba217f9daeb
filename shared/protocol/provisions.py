"""What a request brings besides its prompt: MCP servers, skills, input files, sub-agents, commands.

Backends write these in several shapes; here each becomes one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    Field,
    StrictStr,
    StringConstraints,
    model_validator,
)

from shared.protocol.credentials import (
    argument_credentials,
    named_credentials,
    url_credentials,
)
from shared.protocol.part import Part
from shared.protocol.relative_paths import Tree, relative_path
from shared.protocol.repository import DEVICE_NAMES

MAX_SERVERS: Final = 64
MAX_SKILLS: Final = 100
MAX_SKILL_FILES: Final = 2000
"""Of one skill; far more than any has."""

MAX_INLINE_FILES: Final = 5000
"""Of all skills that a field gives inline; their paths are looked at while others wait."""

MAX_INPUT_FILES: Final = 1000
MAX_AGENTS: Final = 50
MAX_COMMANDS: Final = 100
MAX_VARIABLES: Final = 1000
MAX_INSTRUCTIONS_CHARS: Final = 100_000
"""Of one sub-agent's prompt, or one command; as long as a system prompt may be."""

_SKILL_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


# --- MCP servers -----------------------------------------------------------------------------


def _servers_by_name(value: Any) -> Any:
    if isinstance(value, dict) and isinstance(value.get("mcpServers"), dict | list):
        value = value["mcpServers"]
    if isinstance(value, list):
        return _by_name(value, "server")
    return value


def _by_name(items: list[Any], what: str) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for item in items:
        if not isinstance(item, dict) or not isinstance(item.get("name"), str):
            raise ValueError(f"every {what} of a list needs a name")
        if item["name"] in named:
            raise ValueError(f"two {what}s have the same name")
        named[item["name"]] = {k: v for k, v in item.items() if k != "name"}
    return named


def _can_be_reached(server: dict[str, Any]) -> dict[str, Any]:
    # Claude Code passes over one that cannot, without a word.
    if not any(isinstance(server.get(way), str) and server[way] for way in ("command", "url")):
        raise ValueError("needs a command or a url")
    return server


_ServerName = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,128}$")]

McpServers = Annotated[
    dict[_ServerName, Annotated[dict[str, Any], AfterValidator(_can_be_reached)]],
    BeforeValidator(_servers_by_name),
    Field(max_length=MAX_SERVERS),
]
"""MCP servers by name, as Claude Code configures them; also ``{"mcpServers": …}`` and a list."""


def typed_server(server: dict[str, Any]) -> dict[str, Any]:
    """*server* with its type where it is one by its address: Claude Code does not guess it."""
    if server.get("type") or server.get("command"):
        return server
    return {**server, "type": "http"}


def server_credentials(server: Mapping[str, Any]) -> Iterator[str]:
    """The credentials in one server's headers, variables, arguments and address."""
    for part in ("headers", "env"):
        given = server.get(part)
        if isinstance(given, dict):
            yield from named_credentials(given)
    arguments, url = server.get("args"), server.get("url")
    if isinstance(arguments, list):
        yield from argument_credentials(arguments)
    if isinstance(url, str):
        yield from url_credentials(url)


# --- Files -----------------------------------------------------------------------------------


class _Content(Part):
    """Where the bytes of something come from: given inline, or fetched."""

    content: StrictStr | None = Field(default=None, repr=False)
    """Text; becomes UTF-8."""
    content_base64: str | None = Field(default=None, repr=False)
    url: str | None = Field(default=None, repr=False)
    size: int | None = Field(default=None, ge=0)

    @property
    def sources(self) -> int:
        """How many of the ways to give the content were used."""
        return sum(way is not None for way in (self.content, self.content_base64, self.url))


class InputFile(_Content):
    """A file for ``input/``: fetched from ``url``, or given inline."""

    filename: Annotated[str, AfterValidator(relative_path)] = Field(
        validation_alias=AliasChoices("filename", "path", "name")
    )
    """Relative to ``input/``, with folders."""

    @model_validator(mode="after")
    def _has_content(self) -> Self:
        if self.sources != 1:
            raise ValueError("needs exactly one of url, content and content_base64")
        return self


def _files_by_path(value: Any) -> Any:
    if isinstance(value, dict):
        return [{"filename": path, **_as_content(given)} for path, given in value.items()]
    return value


def _as_content(given: Any) -> dict[str, Any]:
    if isinstance(given, str):
        return {"content": given}
    if isinstance(given, dict):
        return given
    raise ValueError("the content of a file must be a text or an object")


def _without_collisions(files: list[InputFile]) -> list[InputFile]:
    tree = Tree()
    for file in files:
        tree.add(file.filename)
    return files


InputFiles = Annotated[
    list[InputFile],
    BeforeValidator(_files_by_path),
    Field(max_length=MAX_INPUT_FILES),
    AfterValidator(_without_collisions),
]
"""A list of files, or an object of contents by path."""


# --- Skills ----------------------------------------------------------------------------------


class SkillFile(Part):
    """One file of a skill that is given inline."""

    content: StrictStr | None = Field(default=None, repr=False)
    content_base64: str | None = Field(default=None, repr=False)

    @model_validator(mode="after")
    def _has_content(self) -> Self:
        if (self.content is None) == (self.content_base64 is None):
            raise ValueError("needs exactly one of content and content_base64")
        return self


def _as_skill_files(value: Any) -> Any:
    if isinstance(value, dict):
        return {path: _as_content(given) for path, given in value.items()}
    return value


class Skill(Part):
    """A skill: its files, or an archive of them (zip or tar), inline or fetched.

    With nothing but a name it says which skill is meant, and brings none.
    """

    name: StrictStr = Field(min_length=1, max_length=200)
    files: Annotated[
        dict[Annotated[str, AfterValidator(relative_path)], SkillFile] | None,
        BeforeValidator(_as_skill_files),
        Field(min_length=1, max_length=MAX_SKILL_FILES),
    ] = None
    archive_base64: str | None = Field(
        default=None,
        repr=False,
        validation_alias=AliasChoices("archive_base64", "archive", "content_base64"),
    )
    url: str | None = Field(default=None, repr=False)
    sha256: (
        Annotated[str, StringConstraints(to_lower=True, pattern=r"^[0-9a-fA-F]{64}$")] | None
    ) = None
    """Of the archive, in hexadecimal; ``None``: it is not checked."""

    @property
    def brings_content(self) -> bool:
        """Whether there is more than a name."""
        return any(way is not None for way in (self.files, self.archive_base64, self.url))

    @model_validator(mode="after")
    def _is_usable(self) -> Self:
        if not self.brings_content:
            return self
        if sum(way is not None for way in (self.files, self.archive_base64, self.url)) != 1:
            raise ValueError("needs only one of files, archive_base64 and url")
        stem = self.name.partition(".")[0].lower()
        if not _SKILL_NAME.fullmatch(self.name) or self.name.endswith(".") or stem in DEVICE_NAMES:
            raise ValueError(
                "name: must be letters, digits, '-', '_' or '.', at most 64, starting with a "
                "letter or digit"
            )
        if self.files is not None:
            if "SKILL.md" not in self.files:
                raise ValueError("files: must have a SKILL.md")
            tree = Tree()
            for path in self.files:
                tree.add(path)
        return self


def _skill_list(value: Any) -> Any:
    """Read a list of names and skills, or an object of skills by name or of texts by path."""
    if isinstance(value, list):
        return [{"name": item} if isinstance(item, str) else item for item in value]
    if not isinstance(value, dict):
        return value
    skills: dict[str, dict[str, Any]] = {}
    for key, given in value.items():
        name, slash, path = str(key).partition("/")
        if isinstance(given, str):
            files = skills.setdefault(name, {"name": name, "files": {}}).setdefault("files", {})
            files[path if slash else "SKILL.md"] = given
        elif isinstance(given, dict):
            ways = {"files", "archive_base64", "archive", "url"}
            skills[key] = {"name": key, **(given if ways & given.keys() else {"files": given})}
        else:
            raise ValueError("every skill must be a text or an object")
    return list(skills.values())


def _distinct_skills(skills: list[Skill]) -> list[Skill]:
    names = [skill.name.casefold() for skill in skills if skill.brings_content]
    if len(names) != len(set(names)):
        raise ValueError("two skills have the same name")
    return skills


def _not_too_many_files(skills: Any) -> Any:
    if isinstance(skills, list):
        files = [skill.get("files") for skill in skills if isinstance(skill, dict)]
        if sum(len(given) for given in files if isinstance(given, dict)) > MAX_INLINE_FILES:
            raise ValueError(f"must have at most {MAX_INLINE_FILES} files together")
    return skills


Skills = Annotated[
    list[Skill],
    BeforeValidator(_not_too_many_files),
    BeforeValidator(_skill_list),  # the last one is the first to be called
    Field(max_length=MAX_SKILLS),
    AfterValidator(_distinct_skills),
]
"""Names and skills; or by name ``{path: content}``, an archive or an address."""


# --- Sub-agents and slash commands -----------------------------------------------------------


_Instructions = Annotated[StrictStr, Field(min_length=1, max_length=MAX_INSTRUCTIONS_CHARS)]
_AgentName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,63}$")]
_CommandName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_:.-]{0,63}$")]


def _tool_list(value: Any) -> Any:
    # Files of sub-agents write "Read, Grep".
    return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


class SubAgent(Part):
    """An agent that the run's own one may hand work to."""

    description: Annotated[StrictStr, Field(min_length=1, max_length=MAX_INSTRUCTIONS_CHARS)]
    """When to use it; the run's agent reads this."""
    prompt: _Instructions = Field(repr=False)
    tools: Annotated[list[str] | None, BeforeValidator(_tool_list)] = None
    """``None``: all that the run may use."""
    model: str | None = Field(default=None, max_length=200)
    """``None``: the run's."""


def _agents_by_name(value: Any) -> Any:
    return _by_name(value, "agent") if isinstance(value, list) else value


SubAgents = Annotated[
    dict[_AgentName, SubAgent], BeforeValidator(_agents_by_name), Field(max_length=MAX_AGENTS)
]
"""Sub-agents by name, or a list of them with names."""


def _commands_by_name(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {str(name).removeprefix("/"): text for name, text in value.items()}


Commands = Annotated[
    dict[_CommandName, _Instructions],
    BeforeValidator(_commands_by_name),
    Field(max_length=MAX_COMMANDS, repr=False),
]
"""Slash commands: Markdown by name."""


# --- Variables -------------------------------------------------------------------------------


def _as_texts(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {
        name: str(given)
        if isinstance(given, int | float) and not isinstance(given, bool)
        else given
        for name, given in value.items()
    }


_VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]

Variables = Annotated[
    dict[_VariableName, StrictStr],
    BeforeValidator(_as_texts),
    Field(max_length=MAX_VARIABLES, repr=False),
]
"""Values for ``${NAME}``."""
