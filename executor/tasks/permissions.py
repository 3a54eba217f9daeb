"""What an agent's tools may do: one policy, asked before every use of a tool.

Four questions, in this order: is the tool among those that the run may use, does a file tool stay
inside the session's folder, does a sandboxed run stay in its sandbox, and, when the agent would ask
its user, who answers. Commands of a shell are not looked into: bounding them is the operating
system's part.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from executor.agents import mcp_names
from executor.agents.protocol import ToolDecision, ToolPolicy
from executor.session_places import CLAUDE_STATE, SKILLS
from executor.tasks.allowed_hosts import host_allowed, url_allowed
from executor.tasks.tool_rules import ToolRule, canonical_tool
from shared.protocol.answers import QuestionKind
from shared.protocol.execution import ExecutionRequest

ALLOWED: Final = ToolDecision(allowed=True)

STRENGTH: Final = (None, "auto", "acceptEdits", "default", "plan", "dontAsk")
"""Permission modes from weakest to strongest; ``None`` is unattended, ``bypassPermissions`` too."""

_FILE_ARGUMENTS: Final[Mapping[str, tuple[str, ...]]] = {
    "Read": ("file_path",),
    "Write": ("file_path",),
    "Edit": ("file_path",),
    "MultiEdit": ("file_path",),
    "NotebookRead": ("notebook_path",),
    "NotebookEdit": ("notebook_path",),
    "LS": ("path",),
    "Glob": ("path", "pattern"),
    "Grep": ("path", "glob"),
    "LSP": ("filePath",),
    # What relative paths start from afterwards.
    "EnterWorktree": ("path",),
}
"""Arguments that name files, by tool."""

_PATTERNS: Final = frozenset({"pattern", "glob"})

_WRITING: Final = frozenset({"Write", "Edit", "MultiEdit", "NotebookEdit"})

_OUTSIDE_SANDBOX: Final = frozenset({"EnterWorktree", "ExitWorktree", "DesignSync", "PowerShell"})
"""They run git, programs or connections of the CLI's own."""

_READING: Final = frozenset({"Read", "NotebookRead", "LS", "LSP", "Glob", "Grep"})

_PLANNING: Final = frozenset({"Read", "Write", "Edit", "MultiEdit"})
"""What an agent needs for its plan, which the CLI has it write into a file of Claude's state."""

_KINDS: Final[Mapping[str, QuestionKind]] = {
    "AskUserQuestion": "question",
    "ExitPlanMode": "plan",
}
"""Tools by which an agent speaks to its user; any other use that it asks about is a permission."""

_NO_USER: Final = (
    "Nobody is there to answer questions in this run. Decide yourself, choose what is safest and "
    "easiest to undo, and say in your final answer what you assumed."
)

_NOBODY_APPROVES: Final = (
    "This needs the approval of a user, and nobody is there to give it in this run. Do what is "
    "possible without it, and say in your final answer what is left to do."
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run's tools may do."""

    cwd: Path
    """What relative paths start from."""
    root: Path
    """The session's folder: file tools stay inside it."""
    protected: frozenset[str] = frozenset({SKILLS})
    """Names in there that are not the agent's to write: what they hold acts on its next start."""
    claude_dir: Path | None = None
    """Claude's own state: what it keeps of this session's long tool results may be read there."""
    mode: str | None = None
    """One of Claude's own modes, or ``None`` for unattended."""
    hosts: tuple[str, ...] | None = None
    """The only hosts that a sandboxed run may reach; ``None``: it is not in a sandbox."""
    rules: tuple[ToolRule, ...] | None = None
    """The only tools that may be used; ``None``: every tool."""
    servers: frozenset[str] = frozenset()
    """The full names of the request's MCP servers."""


def limits_for(
    request: ExecutionRequest,
    *,
    cwd: Path,
    session_dir: Path,
    mode: str | None,
    claude_dir: Path | None,
    hosts: tuple[str, ...] | None = None,
) -> Limits:
    """The limits of a run.

    *claude_dir* is where Claude keeps its state, if that is known. *hosts* is what a sandboxed run
    may reach; ``None``: it is not in a sandbox.
    """
    allowed = request.allowed_tools
    if allowed is None:
        allowed = request.first_bot.allowed_tools
    own_state = claude_dir == session_dir / CLAUDE_STATE
    return Limits(
        cwd=cwd,
        root=session_dir,
        protected=frozenset({SKILLS, CLAUDE_STATE} if own_state else {SKILLS}),
        claude_dir=claude_dir,
        mode=mode,
        hosts=hosts,
        rules=None if allowed is None else tuple(map(ToolRule.parse, allowed)),
        servers=frozenset(map(mcp_names.full_name, _server_names(request))),
    )


def _server_names(request: ExecutionRequest) -> Iterator[str]:
    yield from request.mcp_servers
    for leader in request.bot:
        for bot in leader.everyone():
            yield from bot.mcp_servers or ()


def policy_for(limits: Limits) -> ToolPolicy:
    """The policy in the shape that agents ask; links are resolved off the event loop."""

    async def policy(
        tool: str, arguments: dict[str, Any], *, asked: bool = False, mode: str | None = None
    ) -> ToolDecision:
        bounds = replace(limits, mode=stronger_mode(limits.mode, mode))
        return await asyncio.to_thread(decide, tool, arguments, bounds, asked=asked)

    return policy


def decide(
    tool: str, arguments: Mapping[str, Any], limits: Limits, *, asked: bool = False
) -> ToolDecision:
    """Decide about one use of *tool*; looks at the disk, for links.

    *asked*: the agent's own rules would put this use to its user.
    """
    tool = canonical_tool(tool)
    decision = _is_listed(tool, arguments, limits)
    if decision.allowed:
        decision = _stays_inside(tool, arguments, limits)
    if decision.allowed and limits.hosts is not None:
        decision = _stays_in_sandbox(tool, arguments, limits, limits.hosts)
    if decision.allowed and asked:
        decision = _answer_for_the_user(tool, limits)
    return decision


def stronger_mode(operator: str | None, requested: str | None) -> str | None:
    """The stronger of two permission modes: a request may strengthen, never weaken.

    ``None`` on either side says nothing; the result ``None`` is unattended.
    """
    return max(_plain_mode(operator), _plain_mode(requested), key=STRENGTH.index)


def _plain_mode(mode: str | None) -> str | None:
    # To let everything pass is what unattended means; the CLI refuses its own name for it as root.
    return None if mode == "bypassPermissions" else mode


def _is_listed(tool: str, arguments: Mapping[str, Any], limits: Limits) -> ToolDecision:
    if limits.rules is None or any(rule.matches(tool, arguments, limits) for rule in limits.rules):
        return ALLOWED
    listed = ", ".join(rule.text for rule in limits.rules) or "none"
    return ToolDecision(
        allowed=False,
        message=f"This run may not use {tool} in this way. Allowed tools: {listed}.",
    )


def _stays_inside(tool: str, arguments: Mapping[str, Any], limits: Limits) -> ToolDecision:
    names = _FILE_ARGUMENTS.get(tool)
    if names is None:
        return ALLOWED
    roots: Sequence[Path] = (limits.root,)
    if tool in _READING:
        roots = (limits.root, *_tool_results(limits))
    if tool in _PLANNING and _is_plan(arguments.get("file_path"), limits):
        return ALLOWED
    try:
        targets = [
            target
            for name in names
            if (value := arguments.get(name)) is not None
            for target in _targets(value, name, arguments, limits)
        ]
        inside = all(_is_inside(target, roots) for target in targets)
        protected = tool in _WRITING and any(_is_protected(target, limits) for target in targets)
    except (OSError, RuntimeError, TypeError, ValueError):
        inside = False  # NUL, a loop of links, no text, somebody's home that does not exist
    if inside and protected:
        return _denied("This folder is the executor's: work on a copy of it elsewhere.")
    if inside:
        return ALLOWED
    return ToolDecision(
        allowed=False,
        message=f"{tool} works inside {limits.root} only. Use a path in there; make a folder for "
        "temporary files in it when you need one.",
    )


def _stays_in_sandbox(
    tool: str, arguments: Mapping[str, Any], limits: Limits, hosts: tuple[str, ...]
) -> ToolDecision:
    """What the sandbox around shell commands leaves open: tools that the agent itself carries out.

    What they write, fetch or start is outside of it.
    """
    if arguments.get("dangerouslyDisableSandbox"):
        return _denied("This run is sandboxed: commands run inside the sandbox only.")
    if tool in _OUTSIDE_SANDBOX or arguments.get("isolation") in ("worktree", "remote"):
        return _denied("This run is sandboxed, and this would work outside of the sandbox.")
    if tool in _WRITING and _touches_git(arguments.get(_FILE_ARGUMENTS[tool][0]), limits):
        return _denied("Git's own files can only be changed through git commands in this run.")
    match tool:
        case "SandboxNetworkAccess":
            allowed = host_allowed(str(arguments.get("host", "")), hosts)
        case "WebFetch":
            allowed = url_allowed(str(arguments.get("url", "")), hosts)
        case "WebSearch":
            # Without this list it would bring pages of any host.
            domains = arguments.get("allowed_domains") or [""]
            allowed = all(host_allowed(f"{name}:443", hosts) for name in domains)
        case _:
            return ALLOWED
    if allowed:
        return ALLOWED
    listed = ", ".join(hosts) or "none"
    return _denied(f"This run may only reach these hosts: {listed}. It is the operator's setting.")


def _touches_git(path: object, limits: Limits) -> bool:
    # The CLI, and later the user, run git here outside of the sandbox: it would start what a
    # configuration or a hook names.
    if not isinstance(path, str):
        return True
    try:
        places = _targets(path, "", {}, limits)
    except (OSError, RuntimeError, TypeError, ValueError):
        return True
    parts = (part.lower() for place in places for part in (*place.parts, *Path(path).parts))
    return ".git" in parts


def _denied(message: str) -> ToolDecision:
    return ToolDecision(allowed=False, message=message)


def _tool_results(limits: Limits) -> tuple[Path, ...]:
    if limits.claude_dir is None:
        return ()
    # The CLI keeps them in a folder named after the working directory, which is this session's.
    name = re.sub(r"[^A-Za-z0-9]", "-", str(limits.cwd.resolve()))
    return (limits.claude_dir / "projects" / name,)


def _is_plan(path: object, limits: Limits) -> bool:
    """Whether this is a plan file of Claude's; their names are random, and nobody may list them."""
    if limits.claude_dir is None or not isinstance(path, str) or not Path(path).is_absolute():
        return False
    try:
        place = Path(path).resolve()
        return place.suffix == ".md" and place.parent == (limits.claude_dir / "plans").resolve()
    except (OSError, RuntimeError, ValueError):
        return False


def _targets(
    value: Any, name: str, arguments: Mapping[str, Any], limits: Limits
) -> tuple[Path, Path]:
    """Where the argument *name* leads, without links; a pattern up to its first wildcard.

    Twice, since ``link/..`` is one place to the system and another to who only reads the text.

    Raises:
        TypeError, ValueError, OSError, RuntimeError: Nowhere that can be judged.
    """
    if not isinstance(value, str):
        raise TypeError
    if value != value.strip():
        raise ValueError  # the CLI takes such white space away: " /etc" would be /etc
    start = limits.cwd
    if name in _PATTERNS:
        start = start / Path(arguments.get("path") or "").expanduser()
        value, rest = re.fullmatch(r"([^*?\[{]*)(.*)", value, re.DOTALL).groups()  # type: ignore[union-attr] # matches everything
        if ".." in re.split(r"[/\\{},]", rest):
            raise ValueError
    path = start / Path(value).expanduser()
    return path.resolve(), Path(os.path.normpath(path)).resolve()


def _is_inside(path: Path, roots: Sequence[Path]) -> bool:
    return any(path.is_relative_to(root.resolve()) for root in roots)


def _is_protected(path: Path, limits: Limits) -> bool:
    root = limits.root.resolve()
    inside = path.relative_to(root).parts if path.is_relative_to(root) else ()
    return bool(inside) and inside[0].lower() in limits.protected  # some systems ignore case


def _answer_for_the_user(tool: str, limits: Limits) -> ToolDecision:
    """What holds when nobody can be asked, and whether somebody is to be asked."""
    mode = _plain_mode(limits.mode)
    kind = _KINDS.get(tool, "permission")
    if kind == "permission" and (mode is None or tool in _READING):
        return ALLOWED
    if kind == "question":
        decision = ToolDecision(allowed=False, message=_NO_USER)
    elif mode is None:
        decision = ALLOWED
    else:
        decision = ToolDecision(allowed=False, message=_NOBODY_APPROVES)
    return decision if mode == "dontAsk" else replace(decision, question=kind)
