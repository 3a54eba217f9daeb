"""The work during chaos: runs that are made, followed, and sometimes cancelled, come what may."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.fakes.scripted_cli import KEY_MARK, script

ASK_AGAIN_S = 0.2
CALL_TIMEOUT_S = 5.0
WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "and", "seven", "files")


@dataclass(slots=True)
class Work:
    """One run, as its caller saw it."""

    number: int
    key: str
    """Its own secret, which its agent says again and again."""
    text: str
    task_id: str = ""
    session_id: str = ""
    cancel_asked: bool = False
    sequences: list[int] = field(default_factory=list)
    """Of the events in the order in which the stream gave them, over all its connections."""
    types: list[str] = field(default_factory=list)
    closed: bool = False
    """Whether the stream was followed to its end."""


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
        async with (
            aiohttp.ClientSession(self._url, headers=headers, timeout=timeout) as http,
            asyncio.TaskGroup() as group,
        ):
            for worker in range(self._workers):
                group.create_task(self._work(http, random.Random(f"{self._seed}/{worker}")))

    async def _work(self, http: aiohttp.ClientSession, chance: random.Random) -> None:
        session_id: str | None = None
        while not self._stopping.is_set():
            work = self._next(chance)
            pieces = chance.randrange(5, 150)
            body: dict[str, Any] = {
                "user_id": "chaos",
                "prompt": script(
                    work.text,
                    pieces=pieces,
                    pause_s=chance.choice((0, 0.005, 0.03)),
                    child_s=86_400 if chance.random() < 0.2 else None,
                ),
                "config": {"env": {"api_key": work.key}},
            }
            if session_id is not None:
                body["session_id"] = session_id
            created = await self._ask(http, "/api/v1/tasks", body, key=f"chaos-{work.number}")
            work.task_id, work.session_id = created["task_id"], created["session_id"]
            session_id = work.session_id if chance.random() < 0.5 else None
            async with asyncio.TaskGroup() as group:
                if chance.random() < 0.2:
                    group.create_task(self._cancel(http, work, chance.choice((0.0, 0.1, 1.0, 3.0))))
                group.create_task(self._follow(http, work))

    def _next(self, chance: random.Random) -> Work:
        number = len(self.works)
        words = [
            KEY_MARK if chance.random() < 0.05 else chance.choice(WORDS)
            for _ in range(chance.randrange(10, 400))
        ]
        key = f"sk-chaos-{number:06}-{chance.getrandbits(96):024x}"
        work = Work(number, key, " ".join(words))
        self.works.append(work)
        return work

    async def _cancel(self, http: aiohttp.ClientSession, work: Work, after_s: float) -> None:
        await asyncio.sleep(after_s)
        work.cancel_asked = True
        await self._ask(http, f"/api/v1/tasks/{work.task_id}/cancel", {"reason": "chaos"})

    async def _follow(self, http: aiohttp.ClientSession, work: Work) -> None:
        while not work.closed:
            try:
                async for name, data in self._stream(http, work):
                    if name == "close":
                        work.closed = True
                    else:
                        work.sequences.append(data["sequence"])
                        work.types.append(name)
            except (aiohttp.ClientError, TimeoutError):
                pass
            if not work.closed:
                await asyncio.sleep(ASK_AGAIN_S)

    async def _stream(
        self, http: aiohttp.ClientSession, work: Work
    ) -> AsyncGenerator[tuple[str, dict[str, Any]]]:
        last = {"Last-Event-ID": str(work.sequences[-1])} if work.sequences else {}
        url = f"/api/v1/tasks/{work.task_id}/events"
        async with http.get(url, headers=last) as response:
            response.raise_for_status()
            name = ""
            async for raw in response.content:
                line = raw.decode().rstrip("\r\n")
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    yield name, json.loads(line.removeprefix("data: "))

    async def _ask(
        self, http: aiohttp.ClientSession, path: str, body: dict[str, Any], key: str | None = None
    ) -> dict[str, Any]:
        """POST until it is answered; *key* makes a repeat harmless."""
        headers = {"Idempotency-Key": key} if key else {}
        timeout = aiohttp.ClientTimeout(total=CALL_TIMEOUT_S)
        while True:
            try:
                async with http.post(path, json=body, headers=headers, timeout=timeout) as response:
                    if response.status < 500:
                        response.raise_for_status()
                        answer: dict[str, Any] = await response.json()
                        return answer
            except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError):
                pass
            await asyncio.sleep(ASK_AGAIN_S)
