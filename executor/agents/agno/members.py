"""From a request's bots to who takes part: one agent, or a leader with members, at any depth."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, cast, get_args

from shared.errors import RunError
from shared.protocol.bot import Bot
from shared.protocol.events import Source
from shared.protocol.execution import ExecutionRequest
from shared.status import ErrorCode

Mode = Literal["coordinate", "collaborate", "route"]
"""How a leader works: hands out parts and answers itself, gives every member the same task, or
hands all of it to one member whose answer is the team's."""

MODES: Final = get_args(Mode)

MAX_MEMBERS: Final = 64
"""Of one run, leaders included; a leader may set all of its members to work at the same time."""

AGENT: Final = "agent"
WORKER: Final = "worker"
TEAM_SUPERVISOR: Final = "team_supervisor"
GLOBAL_SUPERVISOR: Final = "global_supervisor"


@dataclass(frozen=True, slots=True)
class Member:
    """One who takes part, with those that it leads."""

    key: str
    """What agno and the models call it; unique within a run."""
    bot: Bot
    source: Source
    mode: Mode = "coordinate"
    """Means nothing without members."""
    members: tuple[Member, ...] = ()

    @property
    def called(self) -> str:
        """Its name for a reader."""
        return self.source.agent_name or self.source.agent_id

    @property
    def team(self) -> str:
        """The name of the team that it leads."""
        return _team_name(self.bot, self.key)

    def everyone(self) -> Iterator[Member]:
        """This one and all below."""
        yield self
        for member in self.members:
            yield from member.everyone()

    def topology(self) -> dict[str, Any]:
        """Who leads whom, as ``system.topology`` tells it."""
        told: dict[str, Any] = self.source.to_dict()
        if self.members:
            told["team_name"] = self.team
            told["mode"] = self.mode
            told["members"] = [member.topology() for member in self.members]
        return told


def read_members(request: ExecutionRequest) -> Member:
    """Who takes part in *request*: the first bot leads the others, each leads its own members.

    Raises:
        RunError: ``invalid_request``: an unknown mode, or too many.
    """
    bots = request.bot or [Bot()]
    if sum(1 for bot in bots for _ in bot.everyone()) > MAX_MEMBERS:
        raise RunError(ErrorCode.INVALID_REQUEST, f"bot: more than {MAX_MEMBERS} members")
    leader = bots[0]
    if len(bots) > 1:
        members = [*leader.members, *bots[1:]]
        leader = leader.model_copy(update={"members": members})
    if request.mode and leader.members:
        leader = leader.model_copy(update={"mode": request.mode})
    return _read(leader, _Names(), above=None)


class _Names:
    def __init__(self) -> None:
        self._taken: set[str] = set()

    def take(self, bot: Bot) -> str:
        """A name that a model can repeat without a mistake."""
        said = bot.name or (str(bot.id) if bot.id is not None else "") or "agent"
        plain = re.sub(r"[^\w]+", "-", said.lower()).strip("-_")[:48] or "agent"
        name, number = plain, 2
        while name in self._taken:
            name, number = f"{plain}-{number}", number + 1
        self._taken.add(name)
        return name


def _read(bot: Bot, names: _Names, *, above: str | None) -> Member:
    """One bot and its members; *above* is the name of the team that it is in, if it is in one."""
    key = names.take(bot)
    kind = _kind(bot, alone=above is None)
    team = {TEAM_SUPERVISOR: _team_name(bot, key), WORKER: above}.get(kind)
    agent_id = str(bot.id if bot.id is not None else bot.name or key)
    source = Source(agent_id, agent_type=kind, agent_name=bot.name or "", team_name=team)
    below = tuple(_read(one, names, above=_team_name(bot, key)) for one in bot.members)
    return Member(key, bot, source, _mode(bot), below)


def _kind(bot: Bot, *, alone: bool) -> str:
    if not bot.members:
        return AGENT if alone else WORKER
    if alone and any(member.members for member in bot.members):
        return GLOBAL_SUPERVISOR
    return TEAM_SUPERVISOR


def _team_name(bot: Bot, key: str) -> str:
    return bot.team_name or bot.name or key


def _mode(bot: Bot) -> Mode:
    mode = (bot.mode or "coordinate").strip().lower()
    if mode in MODES:
        return cast("Mode", mode)
    if not bot.members:
        return "coordinate"  # nobody to work with: the word means nothing
    raise RunError(
        ErrorCode.INVALID_REQUEST,
        f"mode: this team cannot work as {mode[:32]!r}",
        hint=f"a team's mode is one of {', '.join(MODES)}",
    )
