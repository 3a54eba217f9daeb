"""A whole task in a company's network: a proxy with a login, a private authority, no IPv6.

An operator has written them into ``config.env`` and nowhere else, as one does for a service; or the
system itself trusts the authority. Names of other machines are known to the proxy only: backend,
repository and API are reached through it. It is the built program that has to find its way there:
what it trusts must not be what the machine trusted that it was built on.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from shutil import which

import pytest

from executor.exit_status import ExitStatus
from executor.network.trust import SYSTEM_FILES
from scripts.scripted_model import ScriptedModel
from tests.fakes.authority import Authority, behind_tls
from tests.fakes.git_server import git, make_repository, serving
from tests.fakes.http_proxy import ENCODED, LOGIN, HttpProxy, open_proxy
from tests.fakes.model import reaching, scenario, text_step, tool_step
from tests.fakes.processes import MODULE, START_SECONDS, executor_process, manager_process
from tests.fakes.wire import black_hole


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


BUBBLEWRAP = which("bwrap") or "bwrap"
needs_bubblewrap = pytest.mark.skipif(not which("bwrap"), reason="needs bubblewrap")


def with_other(file: Path, other: Path, *program: str) -> tuple[str, ...]:
    """The arguments of Bubblewrap that start *program*, for which *file* is *other*."""
    binds = ("--dev-bind", "/", "/", "--ro-bind", str(other), str(file))
    return ("--die-with-parent", *binds, *program)


def store_with(authority: Authority) -> tuple[Path, Path]:
    """The file in which this system has its authorities, and one with *authority* beside them."""
    store = next(file for file in map(Path, SYSTEM_FILES) if file.exists()).resolve()
    changed = authority.file.with_name("store.pem")
    changed.write_bytes(store.read_bytes() + authority.file.read_bytes())
    return store, changed


@pytest.mark.timeout(600)  # the program may have to be built first
@pytest.mark.parametrize("trusted", ["config.env", pytest.param("system", marks=needs_bubblewrap)])
async def test_a_task_is_done_with_all_that_it_needs_behind_the_proxy(
    tmp_path: Path, program_folder: Path, claude: Path, trusted: str
) -> None:
    make_repository(tmp_path / "source", {"greeting.txt": "hello\n"})
    git(tmp_path, "clone", "--quiet", "--bare", "source", "served/greeter.git")
    authority = Authority(tmp_path / "authority")
    job = scenario(tool_step("Bash", {"command": "cat greeting.txt"}), text_step("It says hello."))
    async with (
        open_proxy(HttpProxy(login=LOGIN)) as proxy,
        manager_process(tmp_path / "manager") as manager,
        behind_tls(port_of(manager.url), authority, "backend.corp.test") as backend,
        serving(tmp_path / "served") as repositories,
        behind_tls(repositories.port, authority, "git.corp.test") as repository,
        ScriptedModel([job]) as model,
        behind_tls(port_of(model.url), authority, "api.corp.test") as api,
    ):
        home = tmp_path / "executor"
        home.mkdir()
        config = home / "config.env"
        lines = [f"HTTPS_PROXY={proxy.url(ENCODED)}", "CLAUDE_MAX_WARM_SESSIONS=0"]
        executable, command = str(program_folder / "wegent-executor"), tuple[str, ...]()
        if trusted == "system":
            executable, command = BUBBLEWRAP, with_other(*store_with(authority), executable)
            lines.append("LOCAL_ISOLATION=none")  # no sandbox works inside of another
        else:
            lines.append(f"SSL_CERT_FILE={authority.file}")
        config.write_text("\n".join(lines), encoding="utf-8")
        config.chmod(0o600)
        async with executor_process(
            home,
            backend,
            manager.executor_token,
            command=command,
            executable=executable,
            PATH="/usr/bin:/bin",
            WEGENT_CLAUDE_PATH=str(claude),
        ) as executor:
            await executor.registered()
            run = await manager.run(
                "What does it say?", {"repo_url": f"{repository}/greeter.git", **reaching(api)}
            )
        assert ENCODED.rpartition(":")[2] not in executor.program.output

    assert run.verdict == ("completed", None)
    assert run.answer == "It says hello."
    assert "hello" in run.data("llm.tool_result")[0]["result"]
    reached = {f"CONNECT {url.removeprefix('https://')}" for url in (backend, repository, api)}
    assert set(proxy.seen) == reached


@needs_bubblewrap
async def test_a_task_is_done_where_the_addresses_of_ipv6_answer_nothing(tmp_path: Path) -> None:
    make_repository(tmp_path / "source", {"greeting.txt": "hello\n"})
    git(tmp_path, "clone", "--quiet", "--bare", "source", "served/greeter.git")
    hosts = tmp_path / "hosts"
    hosts.write_text("::1 host.corp.test\n127.0.0.1 host.corp.test\n")
    async with (
        manager_process(tmp_path / "manager") as manager,
        serving(tmp_path / "served") as repositories,
        ScriptedModel([scenario(text_step("Done."))]) as model,
        AsyncExitStack() as stack,
    ):
        ports = port_of(manager.url), repositories.port, port_of(model.url)
        for port in ports:
            await stack.enter_async_context(black_hole(port))
        backend, repository, api = (f"http://host.corp.test:{port}" for port in ports)
        async with executor_process(
            tmp_path / "executor",
            backend,
            manager.executor_token,
            executable=BUBBLEWRAP,
            command=with_other(Path("/etc/hosts"), hosts, sys.executable, *MODULE),
            LOCAL_ISOLATION="none",
            CLAUDE_MAX_WARM_SESSIONS="0",
        ) as executor:
            await executor.registered()
            run = await manager.run(
                "Do it", {"repo_url": f"{repository}/greeter.git", **reaching(api)}
            )
    assert run.verdict == ("completed", None)


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("ALL_PROXY", "socks5://ada:s3cr3t@127.0.0.1:1", "ALL_PROXY names a socks5 proxy"),
        ("SSL_CERT_FILE", "/nowhere/ca.pem", "SSL_CERT_FILE: /nowhere/ca.pem cannot be used"),
    ],
)
async def test_an_unusable_network_ends_the_start_as_a_wrong_setting(
    tmp_path: Path, variable: str, value: str, says: str
) -> None:
    wrong = {variable: value}
    async with executor_process(tmp_path, "https://127.0.0.1:1", "token", **wrong) as executor:
        async with asyncio.timeout(START_SECONDS):
            status = await executor.program.ended()
    assert status == ExitStatus.USAGE
    assert says in executor.program.output
    assert "s3cr3t" not in executor.program.output
