"""From who takes part to agno's own agents and teams."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from agno.agent import Agent
from agno.models.base import Model
from agno.team import Team
from agno.team.mode import TeamMode
from agno.tools.function import Function

from executor.agents.agno.members import Member, Mode
from shared.protocol.execution import ExecutionRequest

Runner = Agent | Team

MAX_ROLE_CHARS: Final = 300
"""Of a member's own prompt, when nobody has written down for its leader what it is for."""

_MODES: Final[Mapping[Mode, TeamMode]] = {
    "coordinate": TeamMode.coordinate,
    "collaborate": TeamMode.broadcast,
    "route": TeamMode.route,
}


class _Quiet:
    """Without telemetry, which agno would take up again for a variable of the environment."""

    @property
    def telemetry(self) -> bool:
        return False

    @telemetry.setter
    def telemetry(self, _: bool) -> None:
        pass


class _QuietAgent(_Quiet, Agent):
    pass


class _QuietTeam(_Quiet, Team):
    pass


def build(
    team: Member,
    request: ExecutionRequest,
    *,
    model_of: Callable[[Member], Model],
    tools_of: Callable[[Member], list[Function]],
) -> Runner:
    """Everybody in *team*, the first of them as what is run."""
    return _build(team, model_of, tools_of, additional=request.system_prompt)


def _build(
    member: Member,
    model_of: Callable[[Member], Model],
    tools_of: Callable[[Member], list[Function]],
    *,
    additional: str | None = None,
    led: bool = False,
) -> Runner:
    bot = member.bot
    prompts = [text.strip() for text in (additional, bot.system_prompt) if text and text.strip()]
    given: dict[str, Any] = {
        "id": member.key,
        "name": bot.name or member.key,
        "role": bot.role or (_summary(bot.system_prompt) if led else None),
        "instructions": "\n\n".join(prompts) or None,
        "model": model_of(member),
        "tools": tools_of(member) or None,
        # Only its own calls count; that of the first is what a run's limit is about.
        "tool_call_limit": bot.max_turns if member.source.agent_type == "worker" else None,
        # A prompt is no template: `{name}` in it is what it says.
        "resolve_in_context": False,
    }
    if not member.members:
        return _QuietAgent(**given)
    members = [_build(below, model_of, tools_of, led=True) for below in member.members]
    return _QuietTeam(members=members, mode=_MODES[member.mode], **given)


def _summary(prompt: str | None) -> str | None:
    first = (prompt or "").strip().partition("\n\n")[0]
    return first[:MAX_ROLE_CHARS] or None
