"""The work during chaos: runs that are made, followed, answered and cancelled, come what may."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any, Literal

import aiohttp

from shared.protocol.events import TERMINAL_EVENTS, EventType
from tests.fakes.scripted_cli import KEY_MARK, QUESTION, script
from tests.fakes.sse import Received, read_stream

ASK_AGAIN_S = 0.2
CALL_TIMEOUT_S = 5.0
WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "and", "seven", "files")

Stage = Literal["waiting", "beginning", "text", "tool", "question", "ended"]

_STAGES: dict[str, Stage] = {
    EventType.STARTED: "beginning",
    EventType.LLM_START: "text",
    EventType.LLM_STREAM: "text",
    EventType.TOOL_CALL: "tool",
    EventType.TOOL_RESULT: "text",
    EventType.INPUT_REQUIRED: "question",
    EventType.INPUT_RESOLVED: "text",
    **dict.fromkeys(TERMINAL_EVENTS, "ended"),
}
"""Where a run is after each of these; other events change nothing."""


@dataclass(slots=True)
class Work:
    """One run, as its caller saw it."""

    number: int
    key: str
    """Its own secret, which its agent says again and again."""
    text: str
    task_id: str = ""
    session_id: str = ""
    on_node_loss: str = "wait"
    cancel_asked: bool = False
    answered: bool = False
    sequences: list[int] = field(default_factory=list)
    """Of the events in the order in which the stream gave them, over all its connections."""
    types: list[str] = field(default_factory=list)
    closed: bool = False
    """Whether the stream was followed to its end."""
    began_s: float | None = None
    """When its first event was seen, by the monotonic clock; ``None`` before."""
    ended_s: float | None = None
    """The same for its verdict."""

    @property
    def stage(self) -> Stage:
        """Where it is, as far as its caller knows."""
        return next((_STAGES[t] for t in reversed(self.types) if t in _STAGES), "waiting")

    @property
    def under_way(self) -> bool:
        """Whether its agent may be at work now."""
        return self.began_s is not None and self.ended_s is None

    def saw(self, sequence: int, type_: str) -> None:
        """Note an event."""
        self.sequences.append(sequence)
        self.types.append(type_)
        if self.began_s is None and type_ == EventType.STARTED:
            self.began_s = time.monotonic()
        if type_ in TERMINAL_EVENTS:
            self.ended_s = time.monotonic()


class Load:
    """Makes runs until told to stop, then waits for their ends."""

    def __init__(self, seed: int, url: str, token: str, workers: int) -> None:
        self._seed = seed
        self._url = url
        self._token = token
        self._workers = workers
        self._stopping = asyncio.Event()
        self.works: list[Work] = []

    def stop(self) -> None:
        """Make no more runs; those there are go on."""
        self._stopping.set()

    async def run(self) -> None:
        """Work until stopped and every run's stream has ended; bounded by the caller."""
        headers = {"Authorization": f"Bearer {self._token}"}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CALL_TIMEOUT_S, sock_read=30)
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(
                self._url, headers=headers, timeout=timeout, connector=connector
            ) as http,
            asyncio.TaskGroup() as group,
        ):
            for worker in range(self._workers):
                group.create_task(self._work(http, random.Random(f"{self._seed}/{worker}")))

    async def _work(self, http: aiohttp.ClientSession, chance: random.Random) -> None:
        session_id: str | None = None
        while not self._stopping.is_set():
            async with asyncio.TaskGroup() as group:
                work = await self._create(http, chance, session_id)
                group.create_task(self._attend(http, work, random.Random(chance.random())))
                if chance.random() < 0.2:  # the next message comes before the answer to this one
                    more = await self._create(http, chance, work.session_id)
                    group.create_task(self._attend(http, more, random.Random(chance.random())))
            session_id = work.session_id if chance.random() < 0.5 else None

    async def _create(
        self, http: aiohttp.ClientSession, chance: random.Random, session_id: str | None
    ) -> Work:
        work = self._next(chance)
        halfway = chance.random()
        prompt = script(
            work.text,
            pieces=chance.randrange(20, 150),
            pause_s=chance.choice((0.005, 0.02, 0.05)),
            tool_s=round(chance.uniform(0.1, 2), 3) if halfway < 0.4 else None,
            asks=halfway > 0.85,
            child_s=86_400 if chance.random() < 0.2 else None,
            stubborn=chance.random() < 0.05,
            deaf=chance.random() < 0.05,
        )
        config = {"env": {"api_key": work.key}, "on_node_loss": work.on_node_loss}
        body: dict[str, Any] = {"user_id": "chaos", "prompt": prompt, "config": config}
        if session_id is not None:
            body["session_id"] = session_id
        created = await self._ask(http, "/api/v1/tasks", body, key=f"chaos-{work.number}")
        work.task_id, work.session_id = created["task_id"], created["session_id"]
        return work

    def _next(self, chance: random.Random) -> Work:
        number = len(self.works)
        words = [
            KEY_MARK if chance.random() < 0.05 else chance.choice(WORDS)
            for _ in range(chance.randrange(10, 400))
        ]
        key = f"sk-chaos-{number:06}-{chance.getrandbits(96):024x}"
        (loss,) = chance.choices(("wait", "requeue", "fail"), (80, 15, 5))
        work = Work(number, key, " ".join(words), on_node_loss=loss)
        self.works.append(work)
        return work

    async def _attend(self, http: aiohttp.ClientSession, work: Work, chance: random.Random) -> None:
        """Follow it to its end; cancel it on the way, now and then."""
        async with asyncio.TaskGroup() as group:
            if chance.random() < 0.15:
                group.create_task(self._cancel(http, work, chance.choice((0.0, 0.1, 1.0, 3.0))))
            while not work.closed:
                try:
                    async for event in self._stream(http, work):
                        if event.name == "close":
                            work.closed = True
                            continue
                        work.saw(event.data["sequence"], event.name)
                        if event.name == EventType.INPUT_REQUIRED and chance.random() < 0.8:
                            request_id = event.data["data"]["request_id"]
                            after_s = chance.uniform(0, 2)
                            group.create_task(self._answer(http, work, request_id, after_s))
                except (aiohttp.ClientError, TimeoutError):
                    pass
                if not work.closed:
                    await asyncio.sleep(ASK_AGAIN_S)

    async def _cancel(self, http: aiohttp.ClientSession, work: Work, after_s: float) -> None:
        await asyncio.sleep(after_s)
        work.cancel_asked = True
        await self._ask(http, f"/api/v1/tasks/{work.task_id}/cancel", {"reason": "chaos"})

    async def _answer(
        self, http: aiohttp.ClientSession, work: Work, request_id: str, after_s: float
    ) -> None:
        await asyncio.sleep(after_s)
        answers = {QUESTION: "this"}
        body = {"request_id": request_id, "decision": "answer", "answers": answers}
        answer = await self._ask(http, f"/api/v1/tasks/{work.task_id}/input", body, late=True)
        work.answered = work.answered or bool(answer)

    async def _stream(self, http: aiohttp.ClientSession, work: Work) -> AsyncGenerator[Received]:
        last = {"Last-Event-ID": str(work.sequences[-1])} if work.sequences else {}
        url = f"/api/v1/tasks/{work.task_id}/events"
        async with http.get(url, headers=last) as response:
            response.raise_for_status()
            async for received in read_stream(response):
                if received.comment is None:
                    yield received

    async def _ask(
        self,
        http: aiohttp.ClientSession,
        path: str,
        body: dict[str, Any],
        *,
        key: str | None = None,
        late: bool = False,
    ) -> dict[str, Any]:
        """POST until it is answered.

        Args:
            key: Makes a repeat harmless.
            late: It may be too late for this; then nothing is returned.
        """
        headers = {"Idempotency-Key": key} if key else {}
        timeout = aiohttp.ClientTimeout(total=CALL_TIMEOUT_S)
        while True:
            try:
                async with http.post(path, json=body, headers=headers, timeout=timeout) as response:
                    if late and response.status in (404, 409, 410):
                        return {}
                    if response.status < 500:
                        response.raise_for_status()
                        answer: dict[str, Any] = await response.json()
                        return answer
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError):
                pass
            await asyncio.sleep(ASK_AGAIN_S)
