"""MCP servers that are commands, in a sandboxed run: the real CLI, a real server, real walls."""

from __future__ import annotations

import os
import shlex
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from executor.tasks.sandbox_probe import probe_sandbox
from shared.protocol.events import EventType
from tests.fakes import mcp_server
from tests.fakes.house import SECRET, House, Site, git, play, playing, use

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="macOS refuses such servers")

PYTHON = shlex.quote(sys.executable)


@pytest.fixture(autouse=True, scope="module")
def _the_sandbox_works_here() -> None:
    assert probe_sandbox(os.environ) is None


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.clean()


def bot(*arguments: str, **env: str) -> list[dict[str, object]]:
    command = {"command": sys.executable, "args": [mcp_server.__file__, *arguments], "env": env}
    return [{"mcp_servers": {"fake": command}}]


def run(command: str) -> dict[str, object]:
    return use("mcp__fake__run", command=command)


async def test_a_server_works_inside_and_the_user_is_told_once_that_it_has_no_network(
    house: House,
) -> None:
    turn = await play(
        house, run("echo x > made && cat made $TMPDIR/../*/nothing; pwd"), run("true"), bot=bot()
    )
    assert str(house.executor / "workspace" / "1" / "repo") in turn.results[0][0]
    assert (house.executor / "workspace" / "1" / "repo" / "made").exists()
    [warning] = turn.data(EventType.WARNING)
    assert warning["message"].endswith("have no network: fake")


async def test_a_server_reads_no_credentials_and_nothing_of_the_executor(house: House) -> None:
    names = " ".join(shlex.quote(str(path)) for path in house.secrets)
    turn = await play(
        house,
        run(f"cat {names}; for f in {names}; do cp $f . ; done; cat *"),
        run(f"find {house.user} {house.executor} -type f -size +0 -exec cat {{}} +"),
        run(f"umount {house.user}/.ssh {house.executor}; cat {names}"),
        run(f"unshare --user --mount sh -c 'umount {house.user}/.ssh; cat {names}'"),
        bot=bot(),
    )
    assert SECRET not in str(turn.events)


async def test_a_server_writes_nowhere_but_in_the_session_and_its_temporary_folder(
    house: House,
) -> None:
    cwd = house.executor / "workspace" / "1" / "repo"
    cwd.mkdir(parents=True)
    git(cwd, "init", "--quiet")
    before = (cwd / ".git" / "config").read_text()
    places = [house.user, house.outside, house.executor, *house.public]
    turn = await play(
        house,
        *(run(f"echo x > {shlex.quote(str(place))}/{house.escaped}") for place in places),
        run(f"ln -s {house.outside} way; echo x > way/escaped"),
        run("echo x > .git/config; echo x > .git/hooks/post-commit; mv .git old"),
        run("cd ..; mv repo old && mkdir -p repo/.git/hooks"),
        run("echo x > inside && echo x > ../beside && echo x > $TMPDIR/x && cat $TMPDIR/x"),
        bot=bot(),
    )
    assert house.written() == []
    assert (cwd / ".git" / "config").read_text() == before
    assert not (cwd / ".git" / "hooks" / "post-commit").exists()
    assert "exit status 0" in turn.results[-1][0]
    assert (cwd.parent / "beside").exists()


async def test_a_server_changes_no_setting_of_the_kernel(house: House) -> None:
    path = "/proc/sys/kernel/core_pattern"
    change = f"value=$(cat {path}) && echo $value > {path} && echo CHANGED"
    mounted = f"mkdir -p proc; mount -t proc proc proc; {change.replace('/proc/', 'proc/')}"
    turn = await play(
        house,
        run(change),
        run(f"unshare --user --map-root-user --mount --pid --fork sh -c '{mounted}'"),
        run(f"mount -o remount,rw,bind /proc/sys; umount -l /proc/sys; {change}"),
        bot=bot(),
    )
    assert "CHANGED" not in str(turn.results)


async def test_a_server_reaches_neither_this_machine_nor_a_socket_of_another_program(
    house: House,
) -> None:
    ring = (
        "import ctypes; print(ctypes.CDLL(None).syscall(425, 4, ctypes.create_string_buffer(256)))"
    )
    with (
        tempfile.TemporaryDirectory() as folder,
        Site() as site,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        path = f"{folder}/socket"
        code = f"import socket; socket.socket(socket.AF_UNIX).connect({path!r})"
        listener.bind(path)
        listener.listen()
        turn = await play(
            house,
            run(f"curl --silent --show-error --max-time 9 --noproxy '*' {site.url}/"),
            run(f'{PYTHON} -c "{code}"'),
            run(f'{PYTHON} -c "import socket; socket.socket(40, socket.SOCK_STREAM)"'),
            run(f'{PYTHON} -c "{ring}"'),
            run(f'{PYTHON} -c "import socket; socket.socketpair(); socket.socket()"'),
            # Its own proxy's host is on the list for commands, and still out of reach here.
            hosts=("127.0.0.1",),
            bot=bot(),
        )
        site.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            site.socket.accept()
    said = [text for text, _ in turn.results]
    assert "exit status 7" in said[0]
    assert "not permitted" in said[1]
    assert "not permitted" in said[2]
    assert said[3].startswith("-1\n")
    assert "exit status 0" in said[4]


async def test_a_servers_variables_reach_it_without_a_process_list_showing_them(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:proxy-password@127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    async with playing(
        house,
        run("env; tr '\\0' '\\n' < /proc/1/environ"),
        run("tr '\\0' ' ' < /proc/*/cmdline; cat /proc/[0-9]*/cmdline | tr '\\0' ' '"),
        variables={"TOKEN": "given-to-it"},
        bot=bot(OWN_TOKEN="${TOKEN}"),
    ) as (_, turn):
        environment, commands = (text for text, _ in turn.results)
    assert "OWN_TOKEN=given-to-it" in environment
    assert "sk-test-key" not in str(turn.events)
    assert "proxy-password" not in str(turn.events)
    assert "bwrap" in commands
    assert "given-to-it" not in commands


async def test_a_servers_variables_act_on_nothing_outside_of_its_walls(house: House) -> None:
    folder = house.executor / "workspace" / "1" / "repo"
    folder.mkdir(parents=True)
    (folder / "bwrap").write_text(f"#!/bin/sh\ntouch {house.outside}/escaped\n")
    (folder / "bwrap").chmod(0o755)
    path = f"{folder}:{os.environ['PATH']}"
    turn = await play(house, run("echo $PATH"), bot=bot(PATH=path, LD_PRELOAD="./evil.so"))
    assert house.written() == []
    assert path in turn.results[0][0]
    assert "evil.so" in turn.results[0][0]


async def test_a_server_ends_with_its_session(house: House) -> None:
    own = f"619.{os.getpid()}"  # seconds, and nobody else's
    async with playing(
        house, run(f"(setsid sleep {own} > /dev/null 2>&1 &); echo started"), bot=bot()
    ) as (_, turn):
        assert "started" in turn.results[0][0]
    left = [p for p in psutil.process_iter(["cmdline"]) if own in (p.info["cmdline"] or [])]
    assert left == []
