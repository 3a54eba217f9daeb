"""A pool on a real engine, with a stand-in for the executor inside its containers."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import aiohttp

from shared.containers.engine import Engine
from shared.containers.pool import ContainerPool, Endpoint, PoolSettings
from shared.containers.spec import Limits, owner_labels
from tests.fakes.docker_engine import DockerEngine

SCRIPT: Final = Path(__file__).with_name("container_stand_in.pl")

SMALL: Final = Limits(memory=64 * 2**20, cpus=1.0, pids=64, tmp_size=8 * 2**20)

LIMIT_S: Final = 60.0
"""For whatever a test waits for; the engine shares the machine with other tests."""


def stand_in_image(engine: DockerEngine, base: str, manner: str = "ready") -> str:
    """The name of an image whose executor behaves in this *manner*; made when it is not there.

    Args:
        manner: ``ready``; ``dies``: at once, with exit code 3; ``silent``: it never answers.
    """
    key = hashlib.sha256(SCRIPT.read_bytes() + base.encode()).hexdigest()[:12]
    name = f"wegent-test-stand-in:{key}-{manner}"
    if not engine.has_image(name):
        # A program that would give its user root's rights, if there were no wall.
        give = "install --mode=4755 /usr/bin/id /usr/local/bin/id-of-root"
        made = f"{name.replace(':', '-')}-{secrets.token_hex(4)}"
        engine.docker("run", "--network=none", f"--name={made}", base, "bash", "-c", give)
        engine.docker("cp", str(SCRIPT), f"{made}:/stand-in")
        entry = f'ENTRYPOINT ["perl", "/stand-in", "{manner}"]'
        engine.docker("commit", "--change", entry, made, name)
        engine.docker("rm", made)
    return name


@dataclass(frozen=True, slots=True)
class Shell:
    """What a command in a container has done."""

    output: str
    exit_code: int


async def run_in(endpoint: Endpoint, script: str, *, within_s: float = LIMIT_S) -> Shell:
    """Have the stand-in run *script* as the agent's commands are run: as a child of its own.

    Raises:
        aiohttp.ClientError: It has ended before it could answer.
    """
    headers = {"Authorization": f"Bearer {endpoint.token.get_secret_value()}"}
    async with (
        asyncio.timeout(within_s),
        aiohttp.ClientSession() as http,
        http.post(f"{endpoint.executor_url}/sh", data=script, headers=headers) as response,
    ):
        response.raise_for_status()
        output, _, code = (await response.text()).rpartition("\n")
        return Shell(output.strip(), int(code))


async def signal_stand_in(endpoint: Endpoint, name: str) -> None:
    """Send the stand-in itself a signal, from its inside; it may end before it can answer."""
    with suppress(aiohttp.ClientError):
        await run_in(endpoint, f"kill -{name} $(grep ^PPid /proc/$PPID/status | cut -f2)")


class House:
    """An owner's folders on an engine, and its pools one after the other.

    Attributes:
        engine: The command line of the same engine, to look and to break things with.
    """

    def __init__(self, engine: DockerEngine, image: str, folder: Path) -> None:
        self.engine = engine
        self.workspaces = folder / "workspaces"
        self.settings = PoolSettings(
            owner=f"test-{secrets.token_hex(6)}",
            image=image,
            state_dir=folder / "home" / "containers",
            logs_dir=folder / "home" / "container-logs",
            warm_dir=self.workspaces / ".warm",
            limits=SMALL,
        )

    def client(self) -> Engine:
        """A client of the engine; to be entered."""
        return Engine({"DOCKER_HOST": self.engine.host})

    @asynccontextmanager
    async def pool(
        self, *, unfinished: tuple[str, ...] = (), **changes: Any
    ) -> AsyncIterator[ContainerPool]:
        """A pool that has reconciled; containers that a run holds are left, as after a stop."""
        settings = replace(self.settings, **changes)
        async with self.client() as engine, ContainerPool(engine, settings) as pool:
            await pool.reconcile(unfinished)
            yield pool

    def session_dir(self, session_id: str) -> Path:
        """Where a session's files lie."""
        return self.workspaces / session_id

    async def get(
        self, pool: ContainerPool, session_id: str, run_id: str = "run", **options: Any
    ) -> Endpoint:
        """A container as a run handler asks for one."""
        return await pool.get_or_create_container(
            session_id, "user", session_dir=self.session_dir(session_id), run_id=run_id, **options
        )

    async def containers(self) -> list[str]:
        """The ids of all containers of this owner."""
        labels = [f"--filter=label={k}={v}" for k, v in owner_labels(self.settings.owner).items()]
        said = await asyncio.to_thread(
            self.engine.docker, "ps", "--all", "--quiet", "--no-trunc", *labels
        )
        return said.split()

    async def docker(self, *arguments: str) -> str:
        """What ``docker ARGUMENTS`` prints."""
        return await asyncio.to_thread(self.engine.docker, *arguments)

    async def remove_all(self) -> None:
        """Remove what is left of this owner."""
        if left := await self.containers():
            await self.docker("rm", "--force", "--volumes", *left)


async def until(true: Callable[[], Any], within_s: float = LIMIT_S) -> None:
    """Look until *true* is; for what only the engine knows, and tells nobody."""
    async with asyncio.timeout(within_s):
        while True:
            found = true()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.05)
