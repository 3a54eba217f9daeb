"""Docker: whether there is an engine, and whether runs can have containers of it."""

from __future__ import annotations

import asyncio
import importlib
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from executor.diagnosis.finding import Finding, failed, ok, warning
from executor.diagnosis.remedies import command
from executor.network.handed_on import PROXIES, HandedOn, pack
from shared.containers.directories import container_user
from shared.containers.errors import ContainerError
from shared.containers.spec import HOST_NAME, NETWORK_FILE, ContainerSpec, Limits
from shared.errors import ConfigError
from shared.shielding import finish, in_thread

if TYPE_CHECKING:
    from shared.containers.engine import Engine

ANSWER_WITHIN_S: Final = 4.0
"""An engine that takes longer does not work."""

TRY_WITHIN_S: Final = 8.0
"""For all of a container that is tried."""

_UNREACHED: Final = "unreached: "

_TRY_PROXIES: Final = f"""
for proxy; do
  timeout 2 bash -c 'exec 3<>"/dev/tcp/${{0%:*}}/${{0##*:}}"' "$proxy" 2>/dev/null ||
    echo "{_UNREACHED}$proxy" &
done
wait
exec wegent-executor --version
"""
"""Whether there are proxies at ``host:port``, each one an argument."""


async def look_at_docker(environ: Mapping[str, str]) -> Finding:
    """Which engine there is; a task needs none, unless it is to run in a container."""
    try:
        async with _engine(environ) as engine, asyncio.timeout(ANSWER_WITHIN_S):
            version = await engine.ping()
    except (ContainerError, ConfigError, TimeoutError) as exc:
        return ok("Docker", f"{_reason(exc)}; not needed, but for tasks in containers")
    return ok("Docker", f"{version}; not needed, but for tasks in containers")


async def look_at_containers(image: str, environ: Mapping[str, str]) -> Finding:
    """Whether tasks can run in containers, which they have to; tries one."""
    try:
        async with _engine(environ) as engine:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                await engine.ping()
                there = await engine.has_image(image)
            if not there:
                what = f"the image {image} is not there: the first task waits until it is fetched"
                build = command("make", "image", f"IMAGE={image}")
                fetch = command("docker", "pull", image)
                return warning("containers", what, f"{fetch}, or in a checkout: {build}")
            async with asyncio.timeout(TRY_WITHIN_S):
                return await _try(engine, image, environ)
    except (ContainerError, ConfigError, TimeoutError) as exc:
        what = f"{_reason(exc)}, and LOCAL_ISOLATION=container refuses tasks without containers"
        return failed("containers", what, getattr(exc, "hint", None) or command("docker", "info"))


async def _try(engine: Engine, image: str, environ: Mapping[str, str]) -> Finding:
    """Start the program behind the walls that a run has, with a folder of this machine.

    Proxies have to be there for containers, too, which are elsewhere on the network.
    """
    network = await in_thread(pack, environ, file=NETWORK_FILE, this_machine=HOST_NAME)
    proxies = _proxies(network)
    folder = await in_thread(tempfile.mkdtemp, prefix="wegent-doctor-")
    try:
        spec = ContainerSpec(
            name=f"wegent-doctor-{secrets.token_hex(6)}",
            image=image,
            directory=Path(folder),
            user=container_user(),
            owner="doctor",
            mode="ephemeral",
            limits=Limits(memory=2**29),
        )
        program = {"Entrypoint": ["wegent-executor"], "Cmd": ["--version"]}
        if proxies:
            program = {"Entrypoint": ["bash", "-c", _TRY_PROXIES, "doctor"], "Cmd": list(proxies)}
        config = {**spec.config(await engine.cpus()), **program}
        try:
            # An engine that is slow to make it makes it all the same.
            container = await finish(engine.create(spec.name, config))
            await engine.start(container)
            await engine.wait(container)
            told = (await engine.logs(container, 20)).strip().splitlines()
            state = await engine.inspect(container)
        finally:
            await finish(engine.remove(spec.name))
    finally:
        await in_thread(shutil.rmtree, folder, ignore_errors=True)
    said = [line for line in told if not line.startswith(_UNREACHED)]
    unreached = [line.removeprefix(_UNREACHED) for line in told if line not in said]
    if state is None or state.exit_code != 0:
        reason = said[-1] if said else "it says nothing"
        what = f"the executor in the image {image} does not start: {reason}"
        return failed("containers", what, command("docker", "run", "--rm", image, "--version"))
    if unreached:
        return _unreached(proxies, unreached, network.on_loopback)
    return ok("containers", f"{image} works: {said[-1] if said else 'it started'}")


def _proxies(network: HandedOn) -> dict[str, str]:
    """The variables that name them, by ``host:port``; those that cannot be used are left out."""
    found: dict[str, str] = {}
    for name in PROXIES:
        with suppress(ValueError):
            parts = urlsplit(network.variables.get(name, ""))
            if parts.hostname and parts.port:
                found.setdefault(f"{parts.hostname}:{parts.port}", name)
    return found


def _unreached(
    proxies: Mapping[str, str], unreached: Sequence[str], on_loopback: Sequence[str]
) -> Finding:
    names = [proxies.get(proxy, "") for proxy in unreached]
    shown = " and ".join(f"{proxy} ({name})" for proxy, name in zip(unreached, names, strict=True))
    what = f"from a container this proxy cannot be reached: {shown}"
    if set(names) & set(on_loopback):
        remedy = f"have it listen where containers find this machine ({HOST_NAME}), too"
    else:
        remedy = "look whether a firewall stands between the containers' network and the proxy"
    return warning("containers", what, remedy)


@asynccontextmanager
async def _engine(environ: Mapping[str, str]) -> AsyncIterator[Engine]:
    module = await asyncio.to_thread(importlib.import_module, "shared.containers.engine")
    engine: Engine
    async with module.Engine(environ) as engine:
        yield engine


def _reason(exc: Exception) -> str:
    if isinstance(exc, TimeoutError):
        return "the engine does not answer in time"
    return getattr(exc, "message", str(exc))
