"""A local stand-in for the Anthropic Messages API that plays scenario files.

No model is asked: every answer is written in a scenario (format: ``scripted_scenario.py``). The
real ``claude`` CLI, pointed here with ``ANTHROPIC_BASE_URL``, does real work with real tools.

    python scripts/scripted_model.py --scenario scripts/scenarios/demo.json --verbose

The first line on stdout is ``scripted model listening on http://127.0.0.1:PORT``. ``GET
/requests`` lists the last thousand requests, their keys only as short fingerprints. In tests::

    async with ScriptedModel(parse_scenarios([...])) as model:
        ...                                       # run the CLI against model.url
        request = await model.wait_for_request(lambda r: r.kind == "turn")
        await model.gate("before-edit").reached.wait()
        model.gate("before-edit").release()
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Self

from aiohttp import web

if not __package__:  # started as a file: the repository's root is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.scripted_player import ApiError, ConnectionCut, Player, StepGate
from scripts.scripted_record import Kind, RecordedRequest, record_request
from scripts.scripted_request import Conversation, read_conversation
from scripts.scripted_scenario import (
    Fault,
    Scenario,
    ScenarioError,
    Step,
    Text,
    load_scenarios,
)
from scripts.scripted_stream import Message, error_body, estimate_tokens

MAX_BODY_BYTES = 64 * 2**20
MAX_RECORDS = 1000


class ScriptedModel:
    """The stand-in as an async context manager; leaving it closes every connection.

    Args:
        scenarios: Tried in order; those without ``match`` come last.
        port: 0 picks a free one.
        log: Receives one short line for each finished request, never with a key in it.
    """

    def __init__(
        self,
        scenarios: Iterable[Scenario] = (),
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        log: Callable[[str], None] | None = None,
    ) -> None:
        self._scenarios = sorted(scenarios, key=lambda scenario: scenario.matches_everything)
        self._host, self._port, self._log = host, port, log
        self._runner: web.AppRunner | None = None
        self._gates: dict[str, StepGate] = {}
        self._faults_played: Counter[tuple[object, ...]] = Counter()
        self._watchers: list[asyncio.Event] = []
        self.requests: deque[RecordedRequest] = deque(maxlen=MAX_RECORDS)
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_get("/requests", self._list_requests)
        app.router.add_post("/v1/messages/count_tokens", self._count_tokens)
        app.router.add_post("/v1/messages", self._messages)
        app.router.add_route("*", "/{path:.*}", self._anything_else)
        # handler_cancellation: a client that leaves must end a step that hangs.
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.1
        )
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except BaseException:
            await self._runner.cleanup()
            raise
        self.url = f"http://{self._host}:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def gate(self, name: str) -> StepGate:
        """The gate of that name, whether or not an answer has reached it yet."""
        return self._gates.setdefault(name, StepGate())

    async def wait_for_request(
        self, predicate: Callable[[RecordedRequest], bool]
    ) -> RecordedRequest:
        """The first recorded request that satisfies *predicate*, past or future.

        Looks again whenever a request arrives and whenever one ends. Waits without limit: use
        ``asyncio.timeout``.
        """
        changed = asyncio.Event()
        self._watchers.append(changed)
        try:
            while True:
                changed.clear()
                for request in self.requests:
                    if predicate(request):
                        return request
                await changed.wait()
        finally:
            self._watchers.remove(changed)

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        record = self._record(request, "turn")
        began = time.monotonic()
        try:
            return await self._answer(request, raw, record)
        except ApiError as error:
            record.outcome = f"error {error.status}"
            return _error_response(error)
        except ConnectionCut:
            record.outcome = "cut"
            if request.transport is not None:
                request.transport.close()  # abort() would take back what was already streamed
            return web.Response()
        except (asyncio.CancelledError, ConnectionError):
            record.outcome = "client left"
            raise
        finally:
            record.duration_ms = round((time.monotonic() - began) * 1000)
            self._changed()
            if self._log is not None:
                self._log(record.line())

    async def _answer(
        self, request: web.Request, raw: bytes, record: RecordedRequest
    ) -> web.StreamResponse:
        began = time.monotonic()
        conversation = _read(raw)
        record.describe(conversation)
        scenario, step = self._choose(conversation)
        record.scenario = scenario.name
        self._changed()
        response = web.StreamResponse(
            headers={"content-type": "text/event-stream", "cache-control": "no-cache"}
        )

        async def send(event: bytes) -> None:
            if record.first_byte_ms is None:
                record.first_byte_ms = round((time.monotonic() - began) * 1000)
            if not record.stream:
                return
            if not response.prepared:
                await response.prepare(request)
            await response.write(event)

        message = Message(
            model=conversation.model,
            input_tokens=estimate_tokens(len(raw)),
            usage=step.usage,
            send=send,
        )

        def fault_is_due(place: int, fault: Fault) -> bool:
            return self._fault_is_due((scenario.name, place), conversation, fault)

        player = Player(scenario, step, conversation, gate=self.gate, fault_is_due=fault_is_due)
        try:
            await player.play(message)
        except ApiError as error:
            if not response.prepared:
                raise
            await message.fail(error.kind, str(error))
            record.outcome = f"stream error {error.kind}"
            return response
        record.outcome = "answered"
        return response if record.stream else web.json_response(message.as_json())

    def _choose(self, conversation: Conversation) -> tuple[Scenario, Step]:
        if conversation.side_answer is not None:
            return _saying("side request", conversation.side_answer)
        for scenario in self._scenarios:
            if conversation.matches(scenario):
                if conversation.turn < len(scenario.steps):
                    return scenario, scenario.steps[conversation.turn]
                return _saying(scenario.name, f"The scripted scenario {scenario.name!r} is over.")
        first_line = conversation.prompt.partition("\n")[0][:200]
        return _saying(
            "nothing matches",
            "This is a scripted answer: no model was asked, and no scenario matches this prompt, "
            f"which begins with: {first_line}",
        )

    def _fault_is_due(
        self, place: tuple[str, int], conversation: Conversation, fault: Fault
    ) -> bool:
        if fault.times is None:
            return True
        who = conversation.session_id or hash((conversation.history, conversation.prompt))
        key = (who, place, len(conversation.history), conversation.turn)
        self._faults_played[key] += 1
        return self._faults_played[key] <= fault.times

    async def _count_tokens(self, request: web.Request) -> web.Response:
        raw = await request.read()
        self._record(request, "count_tokens")
        return web.json_response({"input_tokens": estimate_tokens(len(raw))})

    async def _list_requests(self, _: web.Request) -> web.Response:
        return web.json_response([asdict(record) for record in self.requests])

    async def _anything_else(self, request: web.Request) -> web.Response:
        self._record(request, "other")
        if request.path == "/v1/models":
            return web.json_response({"data": [], "has_more": False})
        if request.path in {"/", "/api/hello"}:
            return web.json_response({"message": "scripted model"})
        return _error_response(
            ApiError(404, "not_found_error", f"The scripted model has no {request.path[:200]}")
        )

    def _record(self, request: web.Request, kind: Kind) -> RecordedRequest:
        record = record_request(request.method, request.path, request.headers, kind)
        self.requests.append(record)
        self._changed()
        if self._log is not None and kind in {"count_tokens", "other"}:
            self._log(record.line())
        return record

    def _changed(self) -> None:
        for watcher in self._watchers:
            watcher.set()


def _read(raw: bytes) -> Conversation:
    try:
        return read_conversation(json.loads(raw))
    except ValueError as exc:
        raise ApiError(400, "invalid_request_error", str(exc)) from None


def _saying(name: str, text: str) -> tuple[Scenario, Step]:
    step = Step(content=(Text(text=text),))
    return Scenario(name=name, steps=(step,)), step


def _error_response(error: ApiError) -> web.Response:
    return web.json_response(
        error_body(error.kind, str(error)), status=error.status, headers=error.headers
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM; 2 when the arguments or a scenario cannot be used."""
    parser = argparse.ArgumentParser(
        description="Local stand-in for the Anthropic Messages API; plays scenario files."
    )
    parser.add_argument("--scenario", type=Path, action="append", default=[], metavar="FILE")
    parser.add_argument("--scenario-dir", type=Path, metavar="DIR", help="all its *.json files")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--verbose", action="store_true", help="log each request to stderr")
    args = parser.parse_args(argv)
    paths: list[Path] = [*args.scenario]
    if args.scenario_dir is not None:
        paths += sorted(args.scenario_dir.glob("*.json"))
    try:
        scenarios = load_scenarios(paths)
        asyncio.run(_serve(scenarios, args.host, args.port, verbose=args.verbose))
    except ScenarioError as exc:
        print(f"scripted_model: {exc}", file=sys.stderr)
        return 2
    except OSError as exc:
        print(f"scripted_model: cannot listen on {args.host}:{args.port}: {exc}", file=sys.stderr)
        return 1
    return 0


async def _serve(scenarios: list[Scenario], host: str, port: int, *, verbose: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)

    def log(line: str) -> None:
        print(f"scripted: {line}", file=sys.stderr, flush=True)

    async with ScriptedModel(
        scenarios, host=host, port=port, log=log if verbose else None
    ) as model:
        print(f"scripted model listening on {model.url}", flush=True)
        print("Every answer comes from a scenario file; no model is asked.", flush=True)
        await stop.wait()


if __name__ == "__main__":
    raise SystemExit(main())
