"""Local mode with its runs in containers of the real image, on a real engine."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

from scripts.scripted_model import ScriptedModel
from scripts.scripted_scenario import Scenario
from tests.e2e.test_corporate_network import port_of
from tests.e2e.test_restart import check_log, end
from tests.fakes.authority import Authority, behind_tls
from tests.fakes.container_runs import Containers
from tests.fakes.docker_engine import DockerEngine
from tests.fakes.git_server import git, make_repository, serving
from tests.fakes.http_proxy import ENCODED, LOGIN, HttpProxy, open_proxy
from tests.fakes.model import reaching, scenario, step, text_step, tool_step
from tests.fakes.processes import executor_process, manager_process, system


@pytest.fixture
def containers(docker_engine: DockerEngine, executor_image: str) -> Containers:
    return Containers(docker_engine, executor_image)


def half() -> list[Scenario]:
    """A turn that stops in the middle of a message."""
    write = tool_step("Write", {"file_path": "/workspace/half.txt", "content": "half\n"})
    rest = step({"text": "This is "}, {"gate": "half"}, {"text": "all of it"})
    return [scenario(write, rest, prompt="Do it")]


@pytest.mark.parametrize(
    ("signals", "status"),
    [
        ([signal.SIGKILL], -signal.SIGKILL),
        ([signal.SIGTERM], 0),
        ([signal.SIGTERM, signal.SIGTERM], 130),
    ],
    ids=["killed", "stopped", "twice"],
)
async def test_a_run_goes_on_while_no_executor_runs_and_nothing_of_it_is_lost_or_doubled(
    containers: Containers, tmp_path: Path, signals: list[signal.Signals], status: int
) -> None:
    home, variables = tmp_path / "executor", containers.variables
    async with (
        containers.model(*half()) as model,
        manager_process(tmp_path / "manager") as manager,
        executor_process(home, manager.url, manager.executor_token, **variables) as first,
        manager.following("Do it", reaching(model.url)) as live,
    ):
        await live.reaches(model.gate("half"))
        await live.until("llm.tool_result")
        assert await end(first.program, signals) == status
        model.gate("half").release()
        async with asyncio.timeout(50):
            await model.wait_for_request(
                lambda request: request.step == 1 and request.outcome == "answered"
            )
        async with executor_process(home, manager.url, manager.executor_token, **variables):
            run = await live.finished()
            await containers.gone_of(home)
    assert run.answer == "This is all of it"
    check_log(run.events)
    assert len(run.data("lifecycle.started")) == 1
    assert run.data("llm.error") == []
    assert (home / "workspace" / live.session_id / "half.txt").read_text() == "half\n"


@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
async def test_an_executor_with_containers_says_so_and_remembers_conversations(
    containers: Containers, tmp_path: Path, warm: bool
) -> None:
    variables = {**containers.variables, "WARM_CONTAINERS": str(int(warm))}
    scenarios = [
        scenario(text_step("and again"), prompt="Again"),
        scenario(text_step("hello"), prompt="Hello"),
    ]
    async with (
        containers.model(*scenarios) as model,
        system(tmp_path, **variables) as (manager, executor),
    ):
        if warm:
            async with asyncio.timeout(60):
                await executor.program.says(".warm-")
        first = await manager.run("Hello", reaching(model.url))
        second = await manager.run("Again", reaching(model.url), first.task["session_id"])
        nodes = await manager.client.nodes()
    await containers.gone_of(executor.home)
    assert (first.answer, second.answer) == ("hello", "and again")
    assert second.data("lifecycle.started")[0]["resumed"] is True
    assert first.cwd == second.cwd == executor.workspace / first.task["session_id"]
    started = f"-{first.task['session_id']} is ready"
    assert executor.program.output.count(started) == (1 if warm else 2)
    assert (nodes[0]["isolation"], nodes[0]["capabilities"]) == (["container"], ["claude_code"])


async def test_a_task_in_a_warm_container_is_done_with_all_that_it_needs_behind_a_proxy_here(
    containers: Containers, tmp_path: Path
) -> None:
    make_repository(tmp_path / "source", {"greeting.txt": "hello\n"})
    git(tmp_path, "clone", "--quiet", "--bare", "source", "served/greeter.git")
    authority, gateway = Authority(tmp_path / "authority"), containers.engine.gateway
    look = tool_step("Bash", {"command": "cat greeting.txt", "description": "look"})
    job = scenario(look, step({"text": "It "}, {"gate": "here"}, {"text": "says hello."}))
    async with (
        open_proxy(HttpProxy(login=LOGIN, host=gateway)) as proxy,
        serving(tmp_path / "served") as repositories,
        behind_tls(repositories.port, authority, "git.corp.test") as repository,
        ScriptedModel([job]) as model,
        behind_tls(port_of(model.url), authority, "api.corp.test") as api,
    ):
        variables = {
            **containers.variables,
            "WARM_CONTAINERS": "1",
            "HTTPS_PROXY": proxy.url(ENCODED).replace(gateway, "127.0.0.1"),
            "SSL_CERT_FILE": str(authority.file),
        }
        task = {"repo_url": f"{repository}/greeter.git", **reaching(api)}
        async with system(tmp_path, **variables) as (manager, executor):
            async with asyncio.timeout(60):
                await executor.program.says(".warm-")
            async with manager.following("What does it say?", task) as live:
                await live.reaches(model.gate("here"))
                shown = await asyncio.to_thread(
                    containers.engine.docker, "inspect", *await containers.of(executor.home)
                )
                model.gate("here").release()
                run = await live.finished()
        await containers.gone_of(executor.home)
    assert (run.verdict, run.answer) == (("completed", None), "It says hello.")
    assert "hello" in run.data("llm.tool_result")[0]["result"]
    assert set(proxy.seen) == {
        f"CONNECT {url.removeprefix('https://')}" for url in (repository, api)
    }
    secret = ENCODED.rpartition(":")[2]
    assert secret not in shown
    assert secret not in executor.program.output
    assert executor.program.output.count("is on this machine's loopback") == 1


async def test_a_run_on_a_private_network_publishes_no_port(
    containers: Containers, tmp_path: Path
) -> None:
    engine, network = containers.engine, f"wegent-test-{secrets.token_hex(4)}"
    await asyncio.to_thread(engine.docker, "network", "create", network)
    variables = {**containers.variables, "SANDBOX_NETWORK": network}
    wait = step({"text": "so "}, {"gate": "here"}, {"text": "far"})
    try:
        async with (
            containers.model(scenario(wait, prompt="Do")) as model,
            system(tmp_path, **variables) as (manager, executor),
            manager.following("Do it", reaching(model.url)) as live,
        ):
            await live.reaches(model.gate("here"))
            (container,) = await containers.of(executor.home)
            published = await asyncio.to_thread(engine.docker, "port", container)
            model.gate("here").release()
            run = await live.finished()
        await containers.gone_of(executor.home)
    finally:
        await asyncio.to_thread(engine.docker, "network", "rm", network)
    assert published == ""
    assert run.answer == "so far"


async def test_a_request_may_ask_for_a_container_where_the_operator_does_not(
    containers: Containers, tmp_path: Path
) -> None:
    variables = {**containers.variables, "LOCAL_ISOLATION": "none"}
    where = tool_step("Bash", {"command": "pwd", "description": "look"})
    task = scenario(where, text_step("there"), prompt="Look")
    async with (
        containers.model(task) as model,
        system(tmp_path, **variables) as (manager, executor),
    ):
        outside = await manager.run("Look here", reaching(model.url))
        inside = await manager.run("Look", {**reaching(model.url), "isolation": "container"})
        await containers.gone_of(executor.home)
        nodes = await manager.client.nodes()
    assert "container" in nodes[0]["isolation"]
    folders = [run.data("llm.tool_result")[0]["result"] for run in (outside, inside)]
    assert folders == [str(outside.cwd), "/workspace"]


async def test_an_engine_that_starts_later_than_the_executor_is_waited_for(
    containers: Containers, tmp_path: Path
) -> None:
    # A path for a socket is short.
    place = Path(await asyncio.to_thread(tempfile.mkdtemp, prefix="we-"))
    variables = {**containers.variables, "DOCKER_HOST": f"unix://{place}/sock"}
    try:
        async with (
            manager_process(tmp_path / "manager") as manager,
            executor_process(
                tmp_path / "executor", manager.url, manager.executor_token, **variables
            ) as executor,
        ):
            async with asyncio.timeout(60):
                await executor.program.says("waiting for the engine")
                real = containers.engine.host.removeprefix("unix://")
                await asyncio.to_thread((place / "sock").symlink_to, real)
                await executor.program.says("registered at ")
            nodes = await manager.client.nodes()
    finally:
        await asyncio.to_thread(shutil.rmtree, place)
    assert nodes[0]["isolation"] == ["container"]


async def test_without_an_engine_tasks_are_refused_with_the_reason(tmp_path: Path) -> None:
    impatient = """
import executor.bootstrap.container_runs
executor.bootstrap.container_runs.PATIENCE_S = 1.0
from executor.main import main
main()
"""
    variables = {"LOCAL_ISOLATION": "container", "DOCKER_HOST": f"unix://{tmp_path}/none.sock"}
    async with (
        manager_process(tmp_path / "manager") as manager,
        executor_process(
            tmp_path / "executor",
            manager.url,
            manager.executor_token,
            command=["-c", impatient],
            **variables,
        ) as executor,
    ):
        async with asyncio.timeout(60):
            await executor.program.says("registered at ")
        run = await manager.run("Do it")
    assert run.verdict == ("failed", "isolation_unavailable")
    assert "Docker engine" in run.error
