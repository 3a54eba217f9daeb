"""From a dispatch at the backend to the first text back there, against the bare SDK.

Four ways to the same scripted model, in turns within one run, so that whatever else the machine
does hits all of them:

- direct: ``ClaudeSDKClient`` in this process, with plain options of the SDK;
- whole path: a Socket.IO backend in this process and a real executor, without a sandbox as well;
- in the sandbox: the same with Claude Code's sandbox, as executors have it where it works;
- through the manager: HTTP to a real executor manager with an executor of its own, and its SSE.

*Cold* is a new session: the CLI has to be started. *Warm* is the next message of that session.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

if not __package__:  # started as a file: the repository's root belongs on the path, not this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from claude_agent_sdk import (
    ClaudeAgentOptions,
    ClaudeSDKClient,
    PermissionResultAllow,
    ResultMessage,
    StreamEvent,
    ToolPermissionContext,
)

from bench._measure import Report, arguments
from bench._programs import (
    KEY,
    executor_environment,
    knows_a_node,
    manager,
    program,
    scripted_model,
    temporary_folder,
    until,
)
from executor.tasks.agent_environment import DEFAULTS
from scripts.manager_client import ManagerClient
from shared.protocol.local import LocalEvent
from tests.fakes.backend import TOKEN, FakeBackend, open_backend

ROUNDS = 24
WARM_UP = 2
LIMIT_S = 60.0
"""For any one wait; nothing here takes more than seconds."""

AIM_COLD_MS = 40.0
AIM_WARM_MS = 10.0

Pair = tuple[float, float]
"""Milliseconds to the first text: cold, then warm in the same session."""

Way = Callable[[int], Awaitable[Pair]]


async def allow(
    _tool: str, arguments: dict[str, Any], _context: ToolPermissionContext
) -> PermissionResultAllow:
    """The permission callback that whoever runs the CLI unattended needs."""
    return PermissionResultAllow(updated_input=arguments)


class Direct:
    """The SDK as a program of one's own would use it."""

    def __init__(self, place: Path, model_url: str) -> None:
        self._place = place
        self._env = {
            **DEFAULTS,
            "ANTHROPIC_BASE_URL": model_url,
            "ANTHROPIC_API_KEY": KEY,
            "CLAUDE_CONFIG_DIR": str(place / "direct-claude"),
        }

    async def __call__(self, number: int) -> Pair:
        """A new conversation in a new folder, and a second message in it."""
        cwd = self._place / "direct" / str(number)
        cwd.mkdir(parents=True)
        began = time.perf_counter()
        client = ClaudeSDKClient(
            ClaudeAgentOptions(
                cwd=cwd,
                env=self._env,
                system_prompt={"type": "preset", "preset": "claude_code"},
                setting_sources=[],
                include_partial_messages=True,
                can_use_tool=allow,
            )
        )
        try:
            await client.connect()
            cold = await self._first_text(client, began)
            warm = await self._first_text(client, time.perf_counter())
        finally:
            await client.disconnect()
        return cold, warm

    async def _first_text(self, client: ClaudeSDKClient, began: float) -> float:
        """Ask; milliseconds from *began* to the first text. Returns when the answer is complete."""
        await client.query("Say hello.")
        first: float | None = None
        async for message in client.receive_messages():
            if first is None and _is_text(message):
                first = milliseconds_since(began)
            if isinstance(message, ResultMessage):
                break
        assert first is not None, "the SDK gave no text"
        return first


def _is_text(message: object) -> bool:
    if not isinstance(message, StreamEvent) or message.event.get("type") != "content_block_delta":
        return False
    return bool(message.event.get("delta", {}).get("text"))


class WholePath:
    """A Socket.IO backend here, and the executor as a process."""

    def __init__(self, backend: FakeBackend) -> None:
        self._backend = backend

    @classmethod
    @asynccontextmanager
    async def open(cls, place: Path, model_url: str, isolation: str) -> AsyncGenerator[WholePath]:
        """Start both; the executor is registered and has loaded the SDK after the warm-up."""
        async with open_backend() as backend:
            env = executor_environment(place, backend.url, TOKEN) | model(model_url)
            env["LOCAL_ISOLATION"] = isolation
            async with program(["-m", "executor.main"], env, place / "executor.stderr"):
                async with asyncio.timeout(LIMIT_S):
                    await backend.expect(LocalEvent.REGISTER)
                yield cls(backend)

    async def __call__(self, number: int) -> Pair:
        """A new session, and a second message in it."""
        async with asyncio.timeout(LIMIT_S):
            cold = await self._first_chunk(number, 2 * number)
            warm = await self._first_chunk(number, 2 * number + 1)
            await self._backend.send(LocalEvent.CLOSE, {"task_id": number})
        return cold, warm

    async def _first_chunk(self, task_id: int, subtask_id: int) -> float:
        request = {"task_id": task_id, "subtask_id": subtask_id, "prompt": "Say hello."}
        began = time.perf_counter()
        sent = asyncio.create_task(self._backend.send(LocalEvent.DISPATCH, request))
        await self._backend.expect(LocalEvent.CHAT_CHUNK)
        first = milliseconds_since(began)
        result = await self._backend.expect(LocalEvent.RESULT)
        assert result["status"] == "completed", result
        await sent
        return first


class ThroughManager:
    """The executor manager and an executor, both as processes; HTTP in, SSE out."""

    def __init__(self, client: ManagerClient) -> None:
        self._client = client

    @classmethod
    @asynccontextmanager
    async def open(cls, place: Path, model_url: str) -> AsyncGenerator[ThroughManager]:
        """Start both, and wait until the manager knows the executor."""
        home = place / "managed"
        home.mkdir()
        async with manager(home / "manager") as (url, tokens):
            env = executor_environment(home, url, tokens.executor) | model(model_url)
            env["LOCAL_ISOLATION"] = "none"
            async with (
                program(["-m", "executor.main"], env, home / "executor.stderr"),
                ManagerClient(url, tokens.api) as client,
            ):
                async with asyncio.timeout(LIMIT_S):
                    await until(lambda: knows_a_node(client))
                yield cls(client)

    async def __call__(self, _number: int) -> Pair:
        """A new session, and a second message in it."""
        cold, session = await self._first_event(None)
        warm, _ = await self._first_event(session)
        return cold, warm

    async def _first_event(self, session_id: str | None) -> tuple[float, str]:
        began = time.perf_counter()
        created = await self._client.create_task("Say hello.", {}, session_id)
        first: float | None = None
        async with asyncio.timeout(LIMIT_S):
            async for event in self._client.events(created["task_id"]):
                if first is None and event["event"] == {"category": "llm", "action": "stream"}:
                    first = milliseconds_since(began)
        assert first is not None, "the manager's stream ended without a text"
        return first, created["session_id"]


def model(url: str) -> dict[str, str]:
    """The variables by which an executor finds the model."""
    return {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": KEY}


def milliseconds_since(began: float) -> float:
    """Milliseconds since a value of ``time.perf_counter``."""
    return (time.perf_counter() - began) * 1000


async def measure(rounds: int) -> dict[str, list[Pair]]:
    """Go all ways *rounds* times, every second round in the opposite order."""
    async with AsyncExitStack() as stack:
        place = stack.enter_context(temporary_folder())
        url = await stack.enter_async_context(scripted_model(place))
        whole = await stack.enter_async_context(WholePath.open(place / "whole", url, "none"))
        walled = await stack.enter_async_context(WholePath.open(place / "walled", url, "sandbox"))
        ways: dict[str, Way] = {
            "direct": Direct(place, url),
            "whole path": whole,
            "in the sandbox": walled,
            "through manager": await stack.enter_async_context(ThroughManager.open(place, url)),
        }
        times: dict[str, list[Pair]] = {name: [] for name in ways}
        for number in range(rounds + WARM_UP):
            for name in list(ways) if number % 2 else reversed(ways):
                pair = await ways[name](number + 1)
                if number >= WARM_UP:
                    times[name].append(pair)
        return times


def main() -> None:
    """Measure and print."""
    options = arguments("Time from a dispatch to the first text", rounds=ROUNDS)
    report = Report("dispatch: from a dispatch to the first text")
    times = asyncio.run(measure(options.rounds))
    aims = (("cold", AIM_COLD_MS), ("warm", AIM_WARM_MS))
    for place, (kind, aim) in enumerate(aims):
        sample = {name: [pair[place] for pair in pairs] for name, pairs in times.items()}
        direct = report.add(f"{kind}: direct", sample["direct"])
        for name in ("whole path", "in the sandbox", "through manager"):
            summary = report.add(f"{kind}: {name}", sample[name])
            ratio = f"{summary.median / direct.median:.2f}", f"{summary.p95 / direct.p95:.2f}"
            added = [a - b for a, b in zip(sample[name], sample["direct"], strict=True)]
            report.add(
                f"{kind}: {name} - direct, pairwise",
                added,
                aim=aim if name == "whole path" else None,
            )
            report.note(
                f"{kind}: {name} / direct: {ratio[0]} by medians, {ratio[1]} by p95; difference of "
                f"medians {summary.median - direct.median:+.1f} ms, "
                f"of p95 {summary.p95 - direct.p95:+.1f} ms"
            )
    report.show(as_json=options.json)


if __name__ == "__main__":
    main()
