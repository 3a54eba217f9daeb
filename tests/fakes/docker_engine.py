"""A real Docker engine for tests, which disturbs no other engine of the machine.

It is started once for all tests of a session, where that may be done: as root, on Linux, with
Debian's ``docker.io``. ``WEGENT_TEST_DOCKER_HOST`` names another one to use instead.

Two engines in one network namespace share the tables of the packet filter, and each flushes them
when it starts. So this one leaves them alone: ports are published by ``docker-proxy``, on a bridge
of its own. Containers reach this host (``host-gateway``), and nothing beyond it. Networks of tests
have the addresses that Docker chooses: an engine with an address pool of its own removes
``docker0`` when it starts a second time, whoever uses that.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import ipaddress
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import quote

import psutil

from executor.agents.process_tree import MARK_VARIABLE, OWN_MARK
from tests.fakes.docker_place import EngineError, engine_bridge, engine_data, unmount

GIVEN: Final = "WEGENT_TEST_DOCKER_HOST"

START_S: Final = 60.0
STOP_S: Final = 30.0

_KEPT: Final = "24h"
"""How long images stay that nobody uses."""


class DockerEngine:
    """An engine, and its command line.

    Attributes:
        host: Its address, as ``DOCKER_HOST`` has it.
        owned: Whether it was started here: it can be stopped, and all that is in it is ours.
    """

    def __init__(self, host: str) -> None:
        self.host = host
        self.owned = False

    def docker(self, *arguments: str, **options: Any) -> str:
        """What ``docker ARGUMENTS`` prints.

        Args:
            options: For :func:`subprocess.run`, such as ``input``.

        Raises:
            EngineError: It has failed.
        """
        ended: subprocess.CompletedProcess[str] = subprocess.run(
            ["docker", *arguments],
            env={**os.environ, "DOCKER_HOST": self.host},
            text=True,
            capture_output=True,
            check=False,
            **options,
        )
        if ended.returncode:
            raise EngineError(f"docker {' '.join(arguments)}: {ended.stderr or ended.stdout}")
        return ended.stdout.strip()

    @cached_property
    def gateway(self) -> str:
        """The address of this host for containers; what listens there is reached by them alone."""
        addresses = "{{with index .IPAM.Config 0}}{{.Subnet}} {{.Gateway}}{{end}}"
        said = self.docker("network", "inspect", "bridge", "--format", addresses).split()
        # An engine that has only just started may not tell it, but then it is the first.
        return said[1] if len(said) > 1 else str(ipaddress.ip_network(said[0])[1])

    def has_image(self, name: str) -> bool:
        """Whether the image *name* is there."""
        return bool(self.docker("image", "ls", "--quiet", name))


class OwnEngine(DockerEngine):
    """An engine that was started here.

    Attributes:
        process: The engine's; None while it is stopped.
    """

    _running: ClassVar[set[int]] = set()

    def __init__(self, place: Path, data: Path, lock: int, bridge: str) -> None:
        super().__init__(f"unix://{place / 'docker.sock'}")
        self.owned = True
        self.place = place
        self.process: subprocess.Popen[bytes] | None = None
        self._lock = lock
        self._command = [
            *("setpriv", "--pdeathsig", "TERM", "dockerd"),  # it ends with the tests, even killed
            *("--config-file", str(place / "daemon.json"), "--host", self.host),
            *("--data-root", str(data), "--exec-root", str(place / "exec")),
            *("--pidfile", str(place / "pid"), "--shutdown-timeout", "5", "--log-level", "warn"),
            *("--bridge", bridge),
            *("--iptables=false", "--ip6tables=false", "--ip-masq=false", "--ip-forward=false"),
        ]
        (place / "daemon.json").write_text("{}")

    @property
    def log(self) -> Path:
        """What the engine has written."""
        return self.place / "log"

    def contents(self) -> set[str]:
        """Everything in it that a test can leave behind.

        It is asked itself, twice a test: the command line would take ten times as long.
        """
        with contextlib.closing(_Socket(self.place / "docker.sock")) as engine:
            return {
                *(f"container {it['Id']}" for it in engine.get("/containers/json?all=true")),
                *(f"volume {it['Name']}" for it in engine.get("/volumes")["Volumes"] or ()),
                *(
                    f"network {it['Id']}"
                    for it in engine.get("/networks?filters=" + quote('{"type":["custom"]}'))
                ),
            }

    def remove(self, things: set[str]) -> None:
        """Remove what :meth:`contents` has named."""
        for kind in ("container", "volume", "network"):
            names = [thing.partition(" ")[2] for thing in things if thing.startswith(kind)]
            if names:
                force = () if kind == "network" else ("--force",)
                self.docker(kind, "rm", *force, *names)

    def spawn(self) -> None:
        """Start it, on the thread of the tests, with whose end it ends."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                # As children of an executor have it: this process may run one, and end its strays.
                env={**os.environ, MARK_VARIABLE: OWN_MARK},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[self._lock],
            )
        self._running.add(self.process.pid)

    def wait_ready(self) -> None:
        """Wait until it answers.

        Raises:
            EngineError: It has ended, or does not answer in time.
        """
        assert self.process
        for _ in range(int(START_S / 0.1)):
            if self.process.poll() is not None:
                break
            with contextlib.suppress(EngineError):
                self.docker("version")
                return
            time.sleep(0.1)  # it tells nobody when it is ready
        raise EngineError(f"dockerd does not start: {self.log.read_text()[-2000:]}")

    def wait_stopped(self) -> None:
        """Wait until it has ended; after a while, kill it. Containers of a killed one live on."""
        assert self.process
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._running.discard(self.process.pid)
        self.process = None
        # A killed engine's containerd ends a moment later, and would be taken for a living one.
        _end(each for each in self._processes() if "containerd.toml" in str(each.info["cmdline"]))
        (self.place / "exec" / "containerd" / "containerd.pid").unlink(missing_ok=True)

    def stop(self) -> None:
        """End it, with its containers."""
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.wait_stopped()
        _end(self._processes())

    async def restart(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop it by the signal *how* and start it again."""
        assert self.process
        self.process.send_signal(how)
        await asyncio.to_thread(self.wait_stopped)
        self.spawn()
        await asyncio.to_thread(self.wait_ready)

    def _processes(self) -> list[psutil.Process]:
        """What belongs to it: containerd and the shims name its folder in their arguments."""
        mark = str(self.place)
        return [
            process
            for process in psutil.process_iter(["cmdline"])
            if any(mark in argument for argument in process.info["cmdline"] or ())
        ]

    @classmethod
    def has(cls, process: psutil.Process) -> bool:
        """Whether *process* is part of an engine that runs; a test may have started it anew."""
        with contextlib.suppress(psutil.Error):
            return any(each.pid in cls._running for each in [process, *process.parents()])
        return False


class _Socket(http.client.HTTPConnection):
    """HTTP on the socket *path*."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))

    def get(self, target: str) -> Any:
        """The answer to a question that has one."""
        self.request("GET", target)
        with self.getresponse() as answer:
            if answer.status != http.HTTPStatus.OK:
                raise EngineError(f"{target}: {answer.read().decode()}")
            return json.load(answer)


def _end(processes: Iterable[psutil.Process]) -> None:
    """Kill *processes*, and what they have started."""
    left = list(processes)
    with contextlib.suppress(psutil.Error):
        left += [child for process in left for child in process.children(recursive=True)]
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, STOP_S)


@contextlib.contextmanager
def own_engine() -> Iterator[OwnEngine]:
    """An engine that ends with the block; its images stay for the next one.

    Raises:
        EngineError: It does not start.
    """
    with engine_data() as (data, lock), engine_bridge() as bridge:
        # The names of sockets are short, and those of checkouts need not be.
        place = Path(tempfile.mkdtemp(prefix="we-engine-"))
        engine = OwnEngine(place, data, lock, bridge)
        try:
            engine.spawn()
            engine.wait_ready()
            engine.remove(engine.contents())  # of a session that was killed
            engine.docker("image", "prune", "--all", "--force", "--filter", f"until={_KEPT}")
            yield engine
            if engine.process:
                engine.remove(engine.contents())
        finally:
            engine.stop()
            unmount(place)
            unmount(data)
            shutil.rmtree(place, ignore_errors=True)
