"""``wegent-executor doctor`` as it is typed, beside an executor that is running or without one."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from executor.cli import main
from executor.exit_status import ExitStatus
from shared.protocol.local import LocalEvent
from shared.web.listening import bind
from tests.fakes.backend import TOKEN, open_backend
from tests.fakes.claude import NEW, says
from tests.fakes.docker_mode import docker_process
from tests.fakes.processes import MODULE, ROOT, executor_process, plain_environ, running
from tests.fakes.terminal import show_on_terminal
from tests.fakes.wire import open_wire


async def doctor(home: Path, **variables: str) -> tuple[int, dict[str, Any]]:
    """The exit status, and what ``--json`` prints; standard error stays empty."""
    environ = plain_environ(home.parent / "user", WEGENT_EXECUTOR_HOME=str(home), **variables)
    async with asyncio.timeout(30), running(*MODULE, "doctor", "--json", env=environ) as program:
        status = await program.ended()
    return status, json.loads(program.output)


def by_check(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {finding["check"]: finding for finding in document["checks"]}


async def test_an_executor_that_is_running_keeps_its_connection(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with (
        asyncio.timeout(60),
        open_backend() as backend,
        executor_process(home, backend.url, TOKEN) as executor,
    ):
        await executor.registered()
        (connection,) = backend.connections

        _, document = await doctor(home, WEGENT_BACKEND_URL=backend.url, WEGENT_AUTH_TOKEN=TOKEN)

        assert backend.connections == [connection]
        assert backend.most_connections == 2
        assert len(backend.payloads(LocalEvent.REGISTER)) == 1
    found = by_check(document)
    assert f"running (pid {executor.program.pid}), registered" in found["executor"]["what"]
    assert found["backend token"]["state"] == "ok"


async def test_all_is_well_with_status_0_and_leaves_no_trace(tmp_path: Path) -> None:
    home = tmp_path / "home"
    async with open_backend() as backend:
        status, document = await doctor(
            home,
            WEGENT_BACKEND_URL=backend.url,
            WEGENT_AUTH_TOKEN=TOKEN,
            ANTHROPIC_API_KEY="a-key-for-tests",
            ANTHROPIC_BASE_URL=backend.url,
            WEGENT_CLAUDE_PATH=str(says(NEW, tmp_path / "claude")),
        )

        assert backend.payloads(LocalEvent.REGISTER) == []
    failures = [finding for finding in document["checks"] if finding["state"] == "failed"]
    assert (status, failures) == (ExitStatus.OK, [])
    assert set(by_check(document)) == {
        *("settings", "home", "workspace", "logs", "executor", "disk"),
        *("backend connection", "backend namespace", "backend token", "clock"),
        *("Claude Code", "key or login", "Claude API", "sandbox", "git", "Docker"),
    }
    assert not home.exists()


async def test_a_failure_is_status_1_and_has_a_remedy(tmp_path: Path) -> None:
    async with open_wire(0) as nobody:
        await nobody.refuse()
        status, document = await doctor(
            tmp_path / "home",
            WEGENT_BACKEND_URL=f"http://127.0.0.1:{nobody.port}",
            WEGENT_AUTH_TOKEN=TOKEN,
            ANTHROPIC_BASE_URL=f"http://127.0.0.1:{nobody.port}",
        )

    assert (status, document["state"]) == (ExitStatus.FAILURE, "failed")
    assert by_check(document)["backend connection"]["remedy"]


async def test_wrong_settings_keep_nothing_else_from_being_looked_at(tmp_path: Path) -> None:
    status, document = await doctor(
        tmp_path / "home", EXECUTOR_MODE="local", ANTHROPIC_BASE_URL="127.0.0.1", LOG_LEVEL="SHOUT"
    )

    assert status == ExitStatus.FAILURE
    problems = [one["what"] for one in document["checks"] if one["check"] == "settings"]
    assert len(problems) == 4
    found = by_check(document)
    assert found["git"]["state"] == "ok"
    assert "home" in found
    assert not any(check.startswith(("backend", "Claude API")) for check in found)


async def test_a_line_of_the_config_file_that_says_nothing_is_a_finding_only(
    tmp_path: Path,
) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    (home / "config.env").write_text("WEGENT_AUTH_TOKEN='a-token-for-tests\n")

    _, document = await doctor(home, EXECUTOR_MODE="local", ANTHROPIC_BASE_URL="http://127.0.0.1:1")

    assert "line 1 of" in document["checks"][0]["what"]


async def test_in_docker_mode_the_port_is_looked_at_instead_of_a_backend(tmp_path: Path) -> None:
    settings = {"WORKSPACE_ROOT": str(tmp_path / "w"), "ANTHROPIC_BASE_URL": "http://127.0.0.1:1"}
    with await asyncio.to_thread(bind, "127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        _, document = await doctor(tmp_path / "home", PORT=port, **settings)

        found = by_check(document)
        assert found["port"]["state"] == "failed"
        assert found["port"]["remedy"].startswith("export PORT=")
        assert not any(check.startswith("backend") for check in found)
    _, document = await doctor(tmp_path / "home", PORT=port, **settings)
    assert by_check(document)["port"]["state"] == "ok"


async def test_the_port_of_an_executor_that_serves_there_is_its_own(tmp_path: Path) -> None:
    async with docker_process(tmp_path) as executor:
        port = executor.client.url.rpartition(":")[2]
        settings = {"PORT": port, "ANTHROPIC_BASE_URL": "http://127.0.0.1:1"}
        _, document = await doctor(executor.home, **settings)

        found = by_check(document)
        assert "by the executor of this home" in found["port"]["what"]
        assert f"serving at {executor.client.url}" in found["executor"]["what"]


async def test_proxies_are_also_read_from_the_config_file(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    async with open_wire(0) as nobody:
        await nobody.refuse()
        (home / "config.env").write_text(
            f"HTTPS_PROXY=http://127.0.0.1:{nobody.port}\n"
            "WEGENT_BACKEND_URL=https://backend.example\n"
            f"WEGENT_AUTH_TOKEN={TOKEN}\n"
        )
        _, document = await doctor(home)

    assert f"the proxy 127.0.0.1:{nobody.port}" in by_check(document)["backend connection"]["what"]


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="needs a network without IPv6")
def test_a_name_with_ipv6_addresses_only_is_told_from_a_backend_that_is_down(
    tmp_path: Path,
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("2001:db8::1 six.example\n")
    # Of the network that it makes there is only the loopback.
    alone = ["bwrap", "--dev-bind", "/", "/", "--ro-bind", str(hosts), "/etc/hosts"]
    done = subprocess.run(
        [*alone, "--unshare-net", sys.executable, *MODULE, "doctor", "--json"],
        env=plain_environ(
            tmp_path / "user",
            WEGENT_BACKEND_URL="http://six.example:8001",
            WEGENT_AUTH_TOKEN=TOKEN,
        ),
        cwd=ROOT,
        capture_output=True,
        timeout=30,
    )

    connection = by_check(json.loads(done.stdout))["backend connection"]
    assert connection["state"] == "failed"
    assert "has IPv6 addresses only ([2001:db8::1]:8001)" in connection["what"]


def test_what_a_person_reads_has_a_line_for_each_finding_and_its_remedy_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WEGENT_EXECUTOR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WEGENT_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")

    assert main(["doctor"]) == ExitStatus.FAILURE

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split(maxsplit=2) == ["failed", "settings", "WEGENT_BACKEND_URL is not set"]
    assert lines[1].strip() == "fix: export WEGENT_BACKEND_URL=http://localhost:8001"
    assert lines[-2].endswith(f"a service reads it from {tmp_path / 'home' / 'config.env'}.")
    assert lines[-1].startswith("2 failed, ") or lines[-1].startswith("1 failed, ")
    assert TOKEN not in "".join(lines)


def test_on_a_narrow_terminal_what_was_found_stands_below_what_was_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEGENT_EXECUTOR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("WEGENT_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")

    lines = show_on_terminal(lambda: main(["doctor"])).splitlines()

    assert lines[0].rstrip() == "failed   settings"
    assert lines[1] == "         WEGENT_BACKEND_URL is not set"
    assert lines[2] == "         fix: export WEGENT_BACKEND_URL=http://localhost:8001"
