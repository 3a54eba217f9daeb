"""The engine that other tests stand on: what they expect of it is so, and it leaves nothing."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.fakes.docker_engine import DockerEngine, OwnEngine, own_engine

HELLO = "$c = $s->accept; print $c qq(hello from $ARGV[0]\\n)"
SERVE = f"$s = IO::Socket::INET->new(Listen => 5, LocalPort => 8000); while (1) {{ {HELLO} }}"

BRIDGE_NAME = '{{index .Options "com.docker.network.bridge.name"}}'


async def test_a_port_is_published_on_loopback_only(
    docker_engine: DockerEngine, base_image: str
) -> None:
    container = docker_engine.docker(
        *("run", "--detach", "--publish", "127.0.0.1::8000", base_image),
        *("perl", "-MIO::Socket::INET", "-e", SERVE, "inside"),
    )
    try:
        host, _, port = docker_engine.docker("port", container, "8000").rpartition(":")
        assert host == "127.0.0.1"
        assert await _answer(int(port)) == b"hello from inside\n"
    finally:
        docker_engine.docker("rm", "--force", "--volumes", container)


async def _answer(port: int) -> bytes:
    """The first answer of a server that may still be starting."""
    async with asyncio.timeout(30):
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.suppress(ConnectionResetError), contextlib.closing(writer):
                if said := await reader.readline():
                    return said


async def test_a_container_reaches_this_host_by_name(
    docker_engine: DockerEngine, base_image: str
) -> None:
    heard = asyncio.Event()

    async def hear(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.set()
        writer.close()

    async with await asyncio.start_server(hear, docker_engine.gateway, 0) as server:
        port = server.sockets[0].getsockname()[1]
        await asyncio.to_thread(
            docker_engine.docker,
            *("run", "--rm", "--add-host", "host.docker.internal:host-gateway", base_image),
            *("bash", "-c", f"exec 3<>/dev/tcp/host.docker.internal/{port} && cat <&3"),
        )
        assert heard.is_set()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_it_can_be_started_again(
    docker_engine: DockerEngine, base_image: str, how: signal.Signals
) -> None:
    if not isinstance(docker_engine, OwnEngine):
        pytest.skip("somebody else's engine is not stopped")
    container = docker_engine.docker("run", "--detach", "--init", base_image, "sleep", "infinity")
    await docker_engine.restart(how)
    state = docker_engine.docker("inspect", "--format", "{{.State.Status}}", container)
    assert state == "exited"
    docker_engine.docker("rm", container)


def test_another_one_beside_it_disturbs_nobody_and_leaves_nothing(
    docker_engine: DockerEngine, base_image: str
) -> None:
    if not isinstance(docker_engine, OwnEngine):
        pytest.skip("who may not start the first may not start the second")
    with own_engine() as other:
        assert other.host != docker_engine.host
        assert not other.contents()
        other.docker("network", "create", "inner")
        assert other.contents()
        bridge = other.docker("network", "inspect", "bridge", "--format", BRIDGE_NAME)
        assert bridge in psutil.net_if_stats()
        for table in ("filter", "nat"):
            rules = subprocess.run(
                ["iptables", "-t", table, "-S"], capture_output=True, text=True, check=False
            )
            assert bridge not in rules.stdout
        place, data = other.place, other.docker("info", "--format", "{{.DockerRootDir}}")
    assert not place.exists()
    assert bridge not in psutil.net_if_stats()
    mounts = Path("/proc/mounts").read_text()
    assert str(place) not in mounts
    assert data not in mounts
    assert not any(
        str(place) in argument
        for process in psutil.process_iter(["cmdline"])
        for argument in process.info["cmdline"] or ()
    )
