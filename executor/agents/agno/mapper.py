"""From agno's events to AgentEvents: one turn's state, no I/O.

agno tells for every event in which run it happened, its own or that of a member; runs are what is
told apart here, since one member may have several at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from agno.run.agent import BaseAgentRunEvent, RunEvent
from agno.run.team import BaseTeamRunEvent

from executor.agents.agno.members import Member
from executor.agents.agno.prices import Prices
from executor.agents.agno.steps import Steps
from executor.agents.chats import Chats
from executor.agents.protocol import TurnEnd
from shared.protocol.events import AgentEvent, EventType, Source
from shared.status import ErrorCode

Told = BaseAgentRunEvent | BaseTeamRunEvent

CANCELLED: Final = "cancelled"
"""``code`` of an ``llm.error`` when the turn was interrupted."""

_DELEGATE: Final = "delegate_task_to_member"
_DELEGATE_TO_ALL: Final = "delegate_task_to_members"

_USAGE: Final = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cache_read_input_tokens",
    "cache_write_tokens": "cache_creation_input_tokens",
}
"""From agno's counts to those of every other agent's statistics."""


@dataclass(slots=True, eq=False)
class _Run:
    """One run of one member."""

    member: Member
    chat: str | None
    """What its chat message is known by; ``None``: it is the first's."""
    usage: Counter[str] = field(default_factory=Counter)
    above: _Run | None = None
    below: list[_Run] = field(default_factory=list)
    """The runs of its members that have not ended."""
    delegations: set[str] = field(default_factory=set)
    """The calls by which it has handed out work, and which have not ended."""
    spoken: bool = False
    """Whether anything that it says has been told."""
    thought: str = ""
    """What it thinks, which comes in pieces and is told as a whole."""

    def think(self) -> list[AgentEvent]:
        """Its thought, if there is one that has not been told."""
        thought, self.thought = self.thought, ""
        if not thought:
            return []
        return [AgentEvent(EventType.REASONING, {"content": thought}, self.member.source)]


class TurnMapper:
    """Maps the events of one turn."""

    def __init__(self, team: Member, prices: Prices | None = None) -> None:
        """*team* is whoever takes part; *prices* ``None``: they are not known."""
        self._team = team
        self._prices = prices
        self._members = {member.key: member for member in team.everyone()}
        self._runs: dict[str, _Run] = {}
        self._sources: dict[str | None, Source] = {None: team.source}
        self._chats = Chats(self._sources.__getitem__)
        self._usage: Counter[str] = Counter()
        self.asked = 0
        """How often the first has been asked for an answer."""
        self.cost_usd = 0.0 if prices is not None else None
        """Of the answers of everybody; ``None``: the prices are not known."""
        self.spent_when_asked_usd = 0.0
        """What those had cost that came before anybody was last asked."""
        self.answered = 0
        """How often it has given one."""
        self.answer = ""
        """The last of what it has said: after its last use of a tool."""
        self.steps = Steps()
        self.model: str | None = None
        self.failures: dict[str, TurnEnd] = {}
        """What has ended somebody's last answer, by their keys: the models tell more than agno."""
        self.failure: str | None = None
        """Why the first has failed, in agno's words; ``None``: it has not."""

    @property
    def usage(self) -> dict[str, int]:
        """The tokens of everybody."""
        return {name: self._usage[name] for name in _USAGE.values()}

    def map(self, told: Told) -> list[AgentEvent]:
        """What *told* means; empty for what has no meaning here."""
        run = self._run(told)
        if run is None:
            return []
        kind = str(told.event).removeprefix("Team")
        if kind == RunEvent.model_request_started:
            return self._asks(run, getattr(told, "model", None))
        if kind == RunEvent.model_request_completed:
            return self._has_answered(run, told)
        if kind == RunEvent.run_content:
            return self._says(run, told)
        if kind == RunEvent.tool_call_started:
            return self._calls(run, getattr(told, "tool", None))
        if kind == RunEvent.tool_call_completed:
            return self._called(run, getattr(told, "tool", None))
        if kind == RunEvent.run_completed:
            return self._completed(run, told)
        if kind == RunEvent.run_error:
            return self._failed(run, str(told.content or "it failed without a word"))
        return []

    def finish(self, end: TurnEnd, *, interrupted: bool = False) -> list[AgentEvent]:
        """Close what is open as the turn has ended."""
        code = CANCELLED if interrupted else end.error_code
        own = next((run.usage for run in self._runs.values() if run.chat is None), self._usage)
        end = replace(end, statistics={**end.statistics, "usage": dict(own)})
        return self._chats.finish(end, None if code is None else str(code))

    def _run(self, told: Told) -> _Run | None:
        run_id = told.run_id or ""
        if run_id not in self._runs:
            key = getattr(told, "agent_id", None) or getattr(told, "team_id", None) or ""
            if (member := self._members.get(key)) is None:
                return None
            chat = None if member is self._team else run_id
            above = self._runs.get(told.parent_run_id or "")
            run = self._runs[run_id] = _Run(member, chat, above=above)
            self._sources[chat] = member.source
            if above is not None:
                above.below.append(run)
        return self._runs[run_id]

    def _asks(self, run: _Run, model: str | None) -> list[AgentEvent]:
        self.spent_when_asked_usd = self.cost_usd or 0.0
        if run.chat is None:
            self.asked += 1
            self.answer = ""
            self.model = model
        events = self._chats.start(run.chat, model)
        self._chats.begin_block(run.chat)
        return events

    def _has_answered(self, run: _Run, told: Told) -> list[AgentEvent]:
        if run.chat is None:
            self.answered += 1
        used = {ours: getattr(told, name, None) or 0 for name, ours in _USAGE.items()}
        run.usage.update(used)
        self._usage.update(used)
        if self.cost_usd is not None and self._prices is not None:
            self.cost_usd += self._prices[run.member.key].of(used)
        return run.think()

    def _says(self, run: _Run, told: Told) -> list[AgentEvent]:
        if thought := getattr(told, "reasoning_content", None):
            run.thought += str(thought)
        text = told.content
        if not isinstance(text, str) or not text:
            return []
        events = run.think()
        if run.delegations:
            # The leader is silent: agno says in its name what comes from the one it has chosen.
            run = _speaker(run)
            if run.delegations:
                return events  # of several at once nobody knows who it is: told when they end
        run.spoken = True
        if run.chat is None:
            self.answer += text
        return events + self._chats.delta(run.chat, text)

    def _calls(self, run: _Run, tool: Any) -> list[AgentEvent]:
        if tool is None:
            return []
        arguments = _plain(tool.tool_args)
        self.steps.note(run.chat or "", run.member.called, tool, "(not ended)")
        chosen = self._chosen(run, tool.tool_name, arguments)
        if not chosen:
            if tool.tool_name == _DELEGATE and _routes(run):
                wanted = str(arguments.get("member_id"))[:64]
                self.failure = f"{run.member.called} chose {wanted!r}, who is not in the team"
            data = {
                "tool_id": tool.tool_call_id,
                "tool_name": tool.tool_name,
                "arguments": arguments,
            }
            return [AgentEvent(EventType.TOOL_CALL, data, run.member.source)]
        run.delegations.add(tool.tool_call_id)
        if _routes(run):
            self.answer = ""
        return [
            AgentEvent(
                EventType.DISPATCH_TEAM if member.members else EventType.DISPATCH_WORKER,
                {"name": _called(member), "task": str(arguments.get("task", ""))},
                run.member.source,
            )
            for member in chosen
        ]

    def _chosen(self, run: _Run, tool: str | None, arguments: Mapping[str, Any]) -> list[Member]:
        if tool == _DELEGATE_TO_ALL:
            return list(run.member.members)
        if tool != _DELEGATE:
            return []
        wanted = arguments.get("member_id")
        return [member for member in run.member.members if member.key == wanted]

    def _called(self, run: _Run, tool: Any) -> list[AgentEvent]:
        if tool is None:
            return []
        self.steps.note(run.chat or "", run.member.called, tool, str(tool.result or ""))
        if tool.tool_call_id in run.delegations:
            run.delegations.remove(tool.tool_call_id)
            return []  # the member's own events have told it
        data = {
            "tool_id": tool.tool_call_id,
            "tool_name": tool.tool_name,
            "result": str(tool.result or ""),
            "is_error": bool(tool.tool_call_error),
        }
        return [AgentEvent(EventType.TOOL_RESULT, data, run.member.source)]

    def _completed(self, run: _Run, told: Told) -> list[AgentEvent]:
        if run.chat is None:
            return []
        text = told.content if isinstance(told.content, str) else ""
        _leave(run)
        if run.above is not None and _routes(run.above):
            self.failure = None
            self.answer = "\n\n".join(filter(None, (self.answer, text)))
        return [
            *([] if run.spoken else self._chats.block(run.chat, text)),
            *self._chats.done(run.chat, dict(run.usage)),
            AgentEvent(EventType.MEMBER_COMPLETED, {}, run.member.source),
        ]

    def _failed(self, run: _Run, error: str) -> list[AgentEvent]:
        if run.chat is None:
            self.failure = error
            return []  # the turn ends with it
        _leave(run)
        end = self.failures.get(run.member.key, TurnEnd(error=f"{run.member.called}: {error}"))
        error, code = end.error or "", end.error_code or ErrorCode.API_ERROR
        events = self._chats.failed(run.chat, error, str(code))
        message = f"{error}; this part of the work is missing"
        return [*events, AgentEvent(EventType.WARNING, {"message": message}, run.member.source)]


def _speaker(run: _Run) -> _Run:
    """Who speaks through a leader that is silent: whoever works below it, if that is only one."""
    while run.delegations and len(run.below) == 1:
        run = run.below[0]
    return run


def _routes(run: _Run) -> bool:
    """Whether it is the first's, and the answer of whom it chooses is the answer."""
    return run.chat is None and run.member.mode == "route"


def _leave(run: _Run) -> None:
    if run.above is not None and run in run.above.below:
        run.above.below.remove(run)


def _called(member: Member) -> str:
    return member.team if member.members else member.called


def _plain(arguments: Any) -> dict[str, Any]:
    return dict(arguments) if isinstance(arguments, Mapping) else {}
