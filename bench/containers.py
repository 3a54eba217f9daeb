"""What runs in containers cost: a start, cold or warm, and what it costs everybody else.

On an engine of its own, or the one that ``WEGENT_TEST_DOCKER_HOST`` names. Without ``--image`` a
small program answers in the executor's place, so that the figures are those of engine and pool.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path

if not __package__:  # started as a file: the repository's root belongs on the path, not this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from aiohttp import web

from bench._lag import Sample, watch_loop, within
from bench._measure import Report
from bench._programs import temporary_folder
from executor.tasks.run_handler import Run
from scripts.scripted_model import ScriptedModel
from shared.containers.engine import Engine
from shared.containers.pool import ContainerPool
from shared.containers.spec import Limits
from shared.protocol.events import AgentEvent, EventType
from tests.fakes.agent import in_process
from tests.fakes.agent_jobs import make_request
from tests.fakes.claude import claude_agent
from tests.fakes.container_runs import Site
from tests.fakes.containers import House, stand_in_image
from tests.fakes.docker_base import base_image
from tests.fakes.docker_engine import GIVEN, DockerEngine, own_engine
from tests.fakes.model import reaching, scenario, step, text_step

ROUNDS = 10
STARTS = 20
MESSAGES = 20
LIMIT_S = 180.0

AIM_HEALTH_MS = 100.0
AIM_CLAIM_MS = 100.0
AIM_RATIO = 1.3

PROBE = """
import http.client, json, sys, time
late, end = [], False
connection = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=60)
print("begun", flush=True)
while not end:
    began = time.perf_counter()
    connection.request("GET", "/health")
    end = json.loads(connection.getresponse().read())["end"]
    late.append((time.perf_counter() - began) * 1000)
    time.sleep(0.01)
print(json.dumps(late))
"""
"""Asks the service for its health, again and again until it says that this is enough."""


class TimedEngine(Engine):
    """Notes when it has started a container."""

    started = 0.0

    async def start(self, container_id: str) -> None:
        """Start it; returns when its first process runs."""
        await super().start(container_id)
        self.started = time.perf_counter()


@contextmanager
def an_engine() -> Iterator[DockerEngine]:
    """The one that is named, or one of its own."""
    if host := os.environ.get(GIVEN):
        yield DockerEngine(host)
    else:
        with own_engine() as engine:
            yield engine


@asynccontextmanager
async def a_pool(
    house: House, *, warm: int = 0, most: int = STARTS
) -> AsyncGenerator[tuple[ContainerPool, TimedEngine]]:
    """One with limits as in use, whose containers are gone at the end."""
    settings = replace(house.settings, warm_containers=warm, max_containers=most, limits=Limits())
    engine = TimedEngine({"DOCKER_HOST": house.engine.host})
    try:
        async with engine, ContainerPool(engine, settings) as pool:
            await pool.reconcile(())
            yield pool, engine
    finally:
        await house.remove_all()


async def start_cold(house: House, rounds: int) -> tuple[list[float], list[float], list[float]]:
    """In turns: ``docker run`` until it returns; ours until its process runs, and until ready."""
    plain: list[float] = []
    running: list[float] = []
    ready: list[float] = []
    options = ("--detach", "--publish=127.0.0.1::8000", "--env=PORT=8000", "--label=bench")
    async with a_pool(house) as (pool, engine):
        for number in range(rounds + 1):
            began = time.perf_counter()
            container = await house.docker("run", *options, house.settings.image)
            took = time.perf_counter() - began
            await house.docker("rm", "--force", "--volumes", container)
            session = f"cold-{number}"
            began = time.perf_counter()
            await house.get(pool, session)
            now = time.perf_counter()
            await pool.remove_session(session)
            if number:  # the first round warms the engine up
                plain.append(took * 1000)
                running.append((engine.started - began) * 1000)
                ready.append((now - engine.started) * 1000)
    return plain, running, ready


async def claim_warm(house: House, rounds: int) -> list[float]:
    """How long a new session waits for a container that is warm."""
    taken: list[float] = []
    async with a_pool(house, warm=1) as (pool, _):
        for number in range(rounds + 1):
            await warm(pool)
            session = f"warm-{number}"
            began = time.perf_counter()
            await house.get(pool, session)
            if number:
                taken.append((time.perf_counter() - began) * 1000)
            await pool.remove_session(session)
    return taken


async def warm(pool: ContainerPool) -> None:
    """Wait for a warm container, which tells nobody when it is ready."""
    while True:
        containers = (await pool.stats())["containers"]
        if any(one["mode"] == "warm" and one["container_id"] for one in containers):
            return
        await asyncio.sleep(0.05)


async def start_many(house: House) -> tuple[list[float], list[float], list[float]]:
    """Meanwhile: how late the loop comes, how long /health takes; and how long all starts took."""
    enough = False
    samples: list[Sample] = []

    async def health(_request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "end": enough})

    app = web.Application()
    app.router.add_get("/health", health)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with a_pool(house) as (pool, _):
        probe = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROBE, str(runner.addresses[0][1])),
            stdout=asyncio.subprocess.PIPE,
        )
        assert probe.stdout is not None
        await probe.stdout.readline()
        watching = asyncio.create_task(watch_loop(samples))
        began = time.monotonic()
        await asyncio.gather(*(house.get(pool, f"many-{number}") for number in range(STARTS)))
        ended = time.monotonic()
        watching.cancel()
        enough = True
        answers = json.loads(await probe.stdout.read())
        await probe.wait()
    await runner.cleanup()
    return within(samples, began, ended), answers, [(ended - began) * 1000]


async def follow_events(run: Run, model: ScriptedModel) -> list[float]:
    """From the moment the model says a first word until it is told, message by message."""
    taken: list[float] = []
    released: dict[str, float] = {}

    async def release() -> None:
        for number in range(MESSAGES):
            gate = model.gate(f"gate-{number}")
            await gate.reached.wait()
            released[f"word-{number}"] = time.perf_counter()
            gate.release()

    releasing = asyncio.create_task(release())
    last: AgentEvent | None = None
    async for event in run.events():
        last = event
        word = str(event.data.get("content", "")).strip()
        if event.type == EventType.LLM_STREAM and word in released:
            taken.append((time.perf_counter() - released.pop(word)) * 1000)
    await releasing
    assert last is not None, "a run has told nothing"
    assert last.type == EventType.COMPLETED, last.data
    return taken


async def compare_events(
    engine: DockerEngine, image: str, place: Path
) -> tuple[list[float], list[float]]:
    """The same run here, without a sandbox, and in a container."""
    look = {"tool": "Read", "input": {"file_path": "{cwd}/nothing"}}
    steps = [
        step({"gate": f"gate-{number}"}, {"text": f"word-{number} "}, look)
        for number in range(MESSAGES)
    ]
    told = scenario(*steps, text_step("done"), prompt="Do")
    here = place / "here"
    for folder in (here, place / "home"):
        await asyncio.to_thread(folder.mkdir, exist_ok=True)
    site = Site(engine, image, place)
    async with site.model(told) as model, in_process(claude_agent(), here) as handler:
        request = make_request("Do it", bot={"agent_config": reaching(model.url)})
        near = await follow_events(handler.start(request), model)
    try:
        async with site.model(told) as model, site.process() as process:
            request = make_request("Do it", bot={"agent_config": reaching(model.url)})
            far = await follow_events(process.handler.start(request), model)
    finally:
        await site.house.remove_all()
    return near, far


async def measure(report: Report, house: House, rounds: int) -> None:
    """All of it."""
    async with asyncio.timeout(LIMIT_S):
        lag, health, whole = await start_many(house)
    report.add(f"loop lag during {STARTS} starts", lag)
    report.add("/health meanwhile", health, aim=AIM_HEALTH_MS, judged="p99")
    report.add(f"{STARTS} starts at once, until all are ready", whole)
    async with asyncio.timeout(LIMIT_S):
        taken = await claim_warm(house, rounds)
    report.add("claim of a warm container", taken, aim=AIM_CLAIM_MS)
    async with asyncio.timeout(LIMIT_S):
        plain, running, ready = await start_cold(house, rounds)
    report.add("docker run --detach", plain)
    report.add("cold start until its process runs", running)
    report.add("from then until the executor answers", ready)
    ratios = [ours / theirs for ours, theirs in zip(running, plain, strict=True)]
    report.add("cold start to docker run", ratios, "ratio", aim=AIM_RATIO)


async def measure_events(report: Report, engine: DockerEngine, image: str, place: Path) -> None:
    """What the way out of a container takes."""
    async with asyncio.timeout(LIMIT_S):
        near, far = await compare_events(engine, image, place)
    report.add("first word of a message to its event, here", near)
    report.add("… from a container", far)
    more = [there - here for here, there in zip(near, far, strict=True)]
    report.add("… from a container - here, message by message", more)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Cold and warm starts, and what they cost others")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")
    parser.add_argument("--image", help="the executor's; without it, a program takes its place")
    options = parser.parse_args()
    report = Report("containers: cold and warm starts")
    with temporary_folder() as place, an_engine() as engine:
        image = options.image or stand_in_image(engine, base_image(engine))
        asyncio.run(measure(report, House(engine, image, place), options.rounds))
        if options.image:
            asyncio.run(measure_events(report, engine, image, place))
    report.note(f"image: {options.image or 'a small program in the place of the executor'}")
    report.note(f"engine: {'one of its own' if not os.environ.get(GIVEN) else 'the one named'}")
    report.show(as_json=options.json)


if __name__ == "__main__":
    main()
