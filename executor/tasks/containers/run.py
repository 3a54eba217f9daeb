"""ContainerRun: one run that an executor in a container carries out, followed from here."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Any, Final

from executor.tasks.cancellation import Cancellation, Cancelled
from executor.tasks.containers.client import Standing, Unreachable
from executor.tasks.containers.held import HeldContainer
from executor.tasks.containers.relayed import Relayed
from executor.tasks.merging import merged
from executor.tasks.questions import AnswerStanding
from executor.tasks.run_handler import WaitsFor
from executor.tasks.verdicts import cancelled, failed
from shared.containers.errors import ContainerDied, ContainerError
from shared.containers.images import PullProgress
from shared.errors import ProtocolError, Refusal, RunError, WegentError
from shared.logging import get_logger
from shared.protocol.events import AgentEvent, EventType, RunRef
from shared.protocol.local import Input
from shared.shielding import finish
from shared.status import ErrorCode

logger = get_logger("container_run")

LAST_WORD_S: Final = 2.0
"""How long an executor inside may take to end a run that nobody wants any more, before its
container is removed under it."""

FOLLOW_AGAIN_S: Final = 0.1
"""Before a stream that has ended is opened again: whatever answers inside may end it at once."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a run begins with.

    Attributes:
        payload: For the executor inside; holds secrets.
        warnings: In sentences for the user.
        accepted: Called when the executor inside has taken it.
    """

    payload: Mapping[str, Any]
    warnings: tuple[str, ...] = ()
    accepted: Callable[[], None] = lambda: None


class ContainerRun:
    """See :class:`executor.tasks.run_handler.Run`."""

    def __init__(
        self,
        run: RunRef,
        container: HeldContainer,
        relayed: Relayed,
        prepare: Callable[[], Awaitable[Prepared]] | None,
    ) -> None:
        """Prepare it; nothing happens before its events are read.

        Args:
            run: Which one.
            container: Where it is carried out; held already: it is being carried out there.
            relayed: What has been passed on already.
            prepare: Makes what the executor inside is sent; ``None``: it has that already.
        """
        self.session = run.session
        self.keep = True
        """Whether its container may be kept for the session's next run."""
        self._run = run
        self._run_id = str(run.subtask_id)
        self._container = container
        self._relayed = relayed
        self._prepare = prepare
        self._sent = self._handed_over = container.client is not None
        """Whether the executor inside may have it, and whether it certainly has."""
        self._let_go = self._ended = False
        self._cancellation = Cancellation()
        self._beside: asyncio.Queue[AgentEvent] = asyncio.Queue()
        """What is told beside the steps of the run."""

    # --- What others ask ------------------------------------------------------------------------

    @property
    def waits_for(self) -> WaitsFor | None:
        if self._relayed.asks:
            return "user"
        return "api" if self._relayed.refused else None

    @property
    def in_progress(self) -> bool:
        """Whether it holds a container, or will."""
        return not self._ended

    @property
    def goes_on_alone(self) -> bool:
        return self._handed_over and self._relayed.verdict is None and not self._cancellation.asked

    def let_go(self) -> None:
        self._let_go = self.goes_on_alone

    def conclude(self, verdict: AgentEvent | None) -> None: ...

    async def cancel(self, reason: str | None) -> None:
        self._cancellation.ask(reason)
        self._relayed.close_questions()
        if self._relayed.verdict is not None:
            return
        try:
            await self._container.resume()  # what stands still does not hear it
            if self._handed_over and (client := self._container.client) is not None:
                await client.cancel(self._run_id, reason)
        except WegentError as exc:
            logger.warning("the run in the container does not hear its cancel: %s", exc)

    async def account(self) -> dict[str, Any]:
        verdict = self._relayed.verdict
        return self._relayed.account({} if verdict is None else verdict.data)

    async def pause(self) -> None:
        if not self._cancellation.asked:
            await self._container.pause()

    async def resume(self) -> None:
        await self._container.resume()

    async def answer(self, answer: Input) -> AnswerStanding:
        known = self._relayed.standing(answer.request_id)
        client = self._container.client
        if known is not None or client is None:
            return known or "unknown_request"
        try:
            standing = await client.answer(self._run_id, answer)
        except (Unreachable, Refusal, RunError) as exc:
            raise ProtocolError(exc.message, hint="the question is open: answer again") from None
        if standing == "accepted":
            self._relayed.answered(answer.request_id)
        return standing

    # --- Carrying it out ------------------------------------------------------------------------

    def events(self) -> AsyncGenerator[AgentEvent]:
        return merged(self._to_its_end(), self._beside)

    async def _to_its_end(self) -> AsyncGenerator[AgentEvent]:
        failure: RunError | None = None
        try:
            try:
                async with aclosing(self._steps()) as events:
                    async for event in events:
                        yield event
            except Cancelled:
                pass
            except ContainerDied as exc:
                log = "\n".join(exc.death.log) or None
                failure = RunError(exc.error_code, exc.message, details=log, hint=exc.hint)
            except (ContainerError, Refusal, RunError) as exc:
                failure = RunError(exc.error_code, exc.message, hint=exc.hint)
            if self._relayed.verdict is None:
                yield await self._own_verdict(failure)
        finally:
            self._relayed.close_questions()
            await finish(self._end())

    async def _steps(self) -> AsyncGenerator[AgentEvent]:
        self._cancellation.check()
        prepared = None if self._prepare is None else await self._prepare()
        if prepared is None:
            await self._cancellation.unless(self._find())
        for warning in prepared.warnings if prepared is not None else ():
            yield _warning(warning)
        begun_again = False
        while self._relayed.verdict is None:
            try:
                if prepared is not None:
                    await self._cancellation.unless(self._begin(prepared, again=begun_again))
                async with aclosing(self._follow()) as events:
                    async for event in events:
                        yield event
            except ContainerDied as exc:
                if prepared is None or begun_again or not exc.death.engine_lost:
                    raise
                begun_again = True
                self._handed_over = False
                await self._container.give_back(keep=False)
                yield _warning(f"{exc.message}; the run goes on in another container")

    async def _begin(self, prepared: Prepared, *, again: bool) -> None:
        """Have the executor in a container carry it out, unless it does so already."""
        client = await self._container.take(self._pulling(), again=again)
        before = await self._container.ask(functools.partial(client.standing, self._run_id))
        if before is None:
            self._relayed.origin = 0
        elif before.attempt < self._run.attempt:
            self._relayed.origin = before.sequence
        else:
            # It may have less than was passed on, when the power went away.
            told = min(self._relayed.origin, before.sequence)
            self._relayed.origin = max(told, before.begins_after)
        self._sent = True
        await self._container.ask(functools.partial(client.execute, prepared.payload))
        self._handed_over = True
        prepared.accepted()

    async def _find(self) -> None:
        """Begin where the run of an earlier process stands; waits for a container that is silent.

        Raises:
            ContainerDied: It has ended.
            EngineUnavailable: There is no engine any more.
            RunError: It does not answer, or does not carry the run out.
        """
        if (client := self._container.client) is None:
            return

        async def look() -> Standing | None:
            await self._container.wake()
            return await client.standing(self._run_id)

        standing = await self._container.ask(look)
        if standing is None or not standing.carries_out(self._run.attempt):
            raise _lost()
        self._relayed.origin = max(self._relayed.origin, standing.begins_after)

    async def _follow(self) -> AsyncGenerator[AgentEvent]:
        """Pass on what the executor inside tells, up to the verdict.

        Raises:
            ContainerDied: The container has ended before that.
            RunError: It does not answer, or does not know the run any more.
        """
        client = self._container.client
        while client is not None:
            with suppress(Unreachable):
                async with aclosing(client.follow(self._run_id, self._relayed.origin)) as events:
                    async for event in events:
                        passed_on = self._relayed.pass_on(event)
                        yield self._explained(passed_on)
                        if passed_on.terminal:
                            return
            if await self._container.ask(functools.partial(client.standing, self._run_id)) is None:
                raise _lost()
            await asyncio.sleep(FOLLOW_AGAIN_S)

    # --- Its end --------------------------------------------------------------------------------

    def _explained(self, event: AgentEvent) -> AgentEvent:
        """A verdict with the cause that only the engine knows."""
        crashed = event.data.get("error_code") == ErrorCode.AGENT_CRASHED
        if not event.terminal or not crashed or not self._container.ran_out_of_memory:
            return event
        error = f"the container ran out of memory: {event.data.get('error')}"
        told = {**event.data, "error": error, "error_code": str(ErrorCode.OUT_OF_MEMORY)}
        return replace(event, data=told)

    async def _own_verdict(self, failure: RunError | None) -> AgentEvent:
        """The verdict of a run that cannot tell its own."""
        if self._cancellation.asked:
            verdict = cancelled(self._cancellation.reason)
        else:
            verdict = failed(failure or RunError(ErrorCode.INTERNAL, "the run had no end"))
        return replace(verdict, data={**verdict.data, **await self.account()})

    async def _end(self) -> None:
        """Leave nothing of it, unless it goes on without this process."""
        self._ended = True
        if self._let_go:
            return
        if self._sent and self._relayed.verdict is None and not await self._ended_inside():
            await self._container.remove()
        await self._container.give_back(keep=self.keep and self._relayed.verdict is not None)

    async def _ended_inside(self) -> bool:
        """Have the run end there, and take note of its last words; whether that has worked."""
        client = self._container.client
        if client is None:
            return False
        with suppress(WegentError, TimeoutError):
            async with asyncio.timeout(LAST_WORD_S):
                await client.cancel(self._run_id, self._cancellation.reason)
                async with aclosing(client.follow(self._run_id, self._relayed.origin)) as events:
                    async for event in events:
                        self._relayed.pass_on(event)
                return True
        return False

    def _pulling(self) -> Callable[[PullProgress], None]:
        """Tells once that an image is fetched, which may take minutes."""
        told = False

        def tell(progress: PullProgress) -> None:
            nonlocal told
            if not told:
                told = True
                self._beside.put_nowait(_warning(f"the image {progress.image} is being fetched"))

        return tell


def _lost() -> RunError:
    return RunError(ErrorCode.CONTAINER_FAILED, "the executor in the container has lost the run")


def _warning(message: str) -> AgentEvent:
    return AgentEvent(EventType.WARNING, {"message": message})
