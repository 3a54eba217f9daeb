"""One hook: however it behaves, nobody waits for it longer than told."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from executor.hooks import thread
from executor.hooks.base import EventHook, Hook
from executor.hooks.calls import HookCall
from executor.hooks.runner import HookRunner, HookSource, end_all
from shared.protocol.events import AgentEvent

LIMIT_S = 20.0
LONG_S = 60.0
"""Longer than any test takes."""
SHORT_S = 0.05

RESPONSE = HookCall("on_response", {"turn": 1, "response": "so"})
END = HookCall("after_execution", {"success": True, "error": None})


@pytest.fixture(autouse=True)
async def _bounded() -> AsyncIterator[None]:
    async with asyncio.timeout(LIMIT_S):
        yield


class Notes(Hook):
    """Writes down what it is told, and on which thread; behaves as a test says."""

    def __init__(self, behave: Callable[[], Any] = lambda: None) -> None:
        self.told: list[Any] = []
        self.threads: set[int] = set()
        self._behave = behave

    async def on_response(self, turn: int, response: str) -> None:
        self.threads.add(threading.get_ident())
        self.told.append(response)
        result = self._behave()
        if asyncio.iscoroutine(result):
            await result

    async def after_execution(self, success: bool, error: str | None) -> None:
        self.told.append((success, error))


class Watched:
    """A runner of *hook*, and what it warns of."""

    def __init__(self, hook: Hook, *, timeout_s: float = LONG_S, queued: int = 100) -> None:
        self.warnings: list[str] = []
        self.warned = asyncio.Event()
        source = HookSource("notes", type(hook), lambda: hook)
        self.runner = HookRunner(source, timeout_s=timeout_s, warn=self._warn, queued=queued)

    def _warn(self, message: str) -> None:
        self.warnings.append(message)
        self.warned.set()


@contextmanager
def blocking() -> Iterator[Callable[[], None]]:
    """Something that blocks its thread until the end of the context."""
    released: queue.SimpleQueue[None] = queue.SimpleQueue()
    try:
        yield released.get
    finally:
        for _ in range(10):
            released.put(None)


async def test_calls_come_in_order_one_after_the_other_on_a_thread_of_their_own() -> None:
    hook = Notes()
    watched = Watched(hook)
    for text in ("a", "b", "c"):
        watched.runner.offer(HookCall("on_response", {"turn": 1, "response": text}))
    watched.runner.offer(END)
    await watched.runner.wait_ended()
    assert hook.told == ["a", "b", "c", (True, None)]
    assert len(hook.threads) == 1
    assert threading.get_ident() not in hook.threads
    assert not any(alive.name == "hook notes" for alive in threading.enumerate())
    assert watched.warnings == []


async def test_a_hook_that_raises_is_called_again_and_warned_of_once() -> None:
    def fail() -> None:
        raise ValueError("a secret perhaps")

    hook = Notes(fail)
    watched = Watched(hook)
    watched.runner.offer(RESPONSE)
    watched.runner.offer(RESPONSE)
    watched.runner.offer(END)
    await watched.runner.wait_ended()
    assert hook.told == ["so", "so", (True, None)]
    assert watched.warnings == ["hook notes: on_response raised ValueError"]


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError])
async def test_a_hook_that_wants_to_end_more_than_itself_only_fails(
    error: type[BaseException],
) -> None:
    def leave() -> None:
        raise error

    hook = Notes(leave)
    watched = Watched(hook)
    watched.runner.offer(RESPONSE)
    watched.runner.offer(END)
    await watched.runner.wait_ended()
    assert hook.told[-1] == (True, None)
    assert watched.warnings == ["hook notes: on_response raised RuntimeError"]


async def test_a_call_that_hangs_is_cancelled_and_the_next_one_comes() -> None:
    hook = Notes(lambda: asyncio.Event().wait())
    watched = Watched(hook, timeout_s=SHORT_S)
    watched.runner.offer(RESPONSE)
    watched.runner.offer(END)
    await watched.runner.wait_ended()
    assert hook.told == ["so", (True, None)]
    assert watched.warnings == ["hook notes: on_response took longer than 0.05 s"]


async def test_a_timeout_of_the_hooks_own_is_its_error() -> None:
    async def own() -> None:
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    watched = Watched(Notes(own))
    watched.runner.offer(RESPONSE)
    watched.runner.offer(END)
    await watched.runner.wait_ended()
    assert watched.warnings == ["hook notes: on_response raised TimeoutError"]


async def test_a_hook_that_blocks_its_thread_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(thread, "REACT_S", 0.5)  # enough for a busy machine to begin a call
    with blocking() as block:
        hook = Notes(block)
        watched = Watched(hook, timeout_s=0.25)
        watched.runner.offer(RESPONSE)
        watched.runner.offer(END)
        await watched.runner.wait_ended()  # while it still blocks
        assert hook.told == ["so"]
        left = [alive for alive in threading.enumerate() if alive.name == "hook notes"]
        assert len(left) == 1
        assert left[0].daemon
        watched.runner.offer(RESPONSE)  # nobody hears it
    assert watched.warnings == [
        "hook notes: on_response is not over after 0.25 s, and cannot be cancelled"
    ]
    await asyncio.to_thread(left[0].join, LIMIT_S)
    assert hook.told == ["so"]


async def test_the_loop_goes_on_while_a_hook_blocks() -> None:
    loop, blocks = asyncio.get_running_loop(), asyncio.Event()
    with blocking() as block:

        def say_so_and_block() -> None:
            loop.call_soon_threadsafe(blocks.set)
            block()

        watched = Watched(Notes(say_so_and_block))
        watched.runner.offer(RESPONSE)
        await blocks.wait()  # heard here before anybody lets go of it
    watched.runner.offer(END)
    await watched.runner.wait_ended()
    assert watched.warnings == []


async def test_a_hook_that_is_too_slow_misses_calls_but_never_the_last() -> None:
    with blocking() as block:
        hook = Notes(block)
        watched = Watched(hook, queued=2)
        for _ in range(10):
            watched.runner.offer(RESPONSE)
        assert watched.warnings == ["hook notes: is too slow: calls are dropped"]
        watched.runner.offer(END)
    await watched.runner.wait_ended()
    assert hook.told == ["so", "so", (True, None)]


async def test_a_hook_that_is_far_behind_at_the_end_is_told_the_end_soon() -> None:
    hook = Notes(lambda: asyncio.Event().wait())
    watched = Watched(hook, timeout_s=SHORT_S)
    for _ in range(100):
        watched.runner.offer(RESPONSE)
    watched.runner.offer(END)
    await watched.runner.wait_ended()
    assert hook.told[-1] == (True, None)
    assert len(hook.told) < 100
    assert watched.warnings[-1] == "hook notes: is too slow: calls are dropped"


async def test_a_hook_that_cannot_be_made_is_warned_of_and_called_never() -> None:
    warnings: list[str] = []

    def make() -> Hook:
        raise OSError("no")

    runner = HookRunner(HookSource("broken", Notes, make), timeout_s=LONG_S, warn=warnings.append)
    await runner.wait_ended()
    runner.offer(END)
    assert warnings == ["hook broken: making it raised OSError"]


async def test_without_a_thread_the_hook_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_many(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", too_many)
        hook = Notes()
        watched = Watched(hook)
        watched.runner.offer(END)
        await watched.runner.wait_ended()
    assert hook.told == []
    assert watched.warnings == ["hook notes: feeding it raised RuntimeError"]


async def test_only_hooks_for_events_see_them() -> None:
    class Events(EventHook):
        def __init__(self) -> None:
            self.seen: list[str] = []

        async def on_event(self, event: AgentEvent) -> None:
            self.seen.append(event.type)

    events, plain = Events(), Notes()
    for hook in (events, plain):
        watched = Watched(hook)
        watched.runner.offer_event(AgentEvent("llm.reasoning"))
        watched.runner.offer(END)
        await watched.runner.wait_ended()
        assert watched.warnings == []
    assert events.seen == ["llm.reasoning"]
    assert plain.told == [(True, None)]


async def test_a_hook_is_not_called_for_what_it_does_not_want() -> None:
    class Few(EventHook):
        events = frozenset({"agent.todos"})

        def __init__(self) -> None:
            self.seen: list[str] = []

        async def on_event(self, event: AgentEvent) -> None:
            self.seen.append(event.type)

    hook = Few()
    watched = Watched(hook, queued=1)
    for _ in range(5):  # nothing of this takes the place of what it wants
        watched.runner.offer(RESPONSE)
        watched.runner.offer_event(AgentEvent("llm.tool_call"))
    watched.runner.offer_event(AgentEvent("agent.todos"))
    watched.runner.offer(END)
    await watched.runner.wait_ended()
    assert hook.seen == ["agent.todos"]
    assert watched.warnings == []


async def test_methods_without_async_and_other_names_of_parameters_will_do() -> None:
    class Plain(Hook):
        def __init__(self) -> None:
            self.told: list[Any] = []

        def on_response(self, number: int, text: str) -> None:  # type: ignore[override]
            self.told.append((number, text))

    hook = Plain()
    watched = Watched(hook)
    watched.runner.offer(RESPONSE)
    watched.runner.offer(END)
    await watched.runner.wait_ended()
    assert hook.told == [(1, "so")]
    assert watched.warnings == []


async def test_what_takes_too_long_at_the_end_is_cut_off() -> None:
    hangs, cut_off = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    async def hang() -> None:
        loop.call_soon_threadsafe(hangs.set)
        try:
            await asyncio.Event().wait()
        finally:
            cut_off.set()

    slow, quick = Watched(Notes(hang)), Watched(Notes())
    slow.runner.offer(RESPONSE)
    for watched in (slow, quick):
        watched.runner.offer(END)
    await hangs.wait()
    await end_all([slow.runner, quick.runner], SHORT_S)
    assert cut_off.is_set()  # and had its time to tidy up
    assert slow.warnings == []


async def test_work_that_a_hook_has_left_ends_with_it() -> None:
    ended = threading.Event()

    async def leave_work() -> None:
        async def work() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        Notes.left = asyncio.create_task(work())  # type: ignore[attr-defined]
        await asyncio.sleep(0)

    watched = Watched(Notes(leave_work))
    watched.runner.offer(RESPONSE)
    watched.runner.offer(END)
    await watched.runner.wait_ended()
    assert ended.is_set()
