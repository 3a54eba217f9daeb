"""The Docker engine: the only import of its client. Every call is bounded in time.

Importing this takes some 20 ms: not on the event loop.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import tarfile
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import TracebackType
from typing import Any, Final, Self

import aiodocker
import aiohttp

from shared.containers.address import Address, find_engine
from shared.containers.errors import (
    ContainerError,
    EngineUnavailable,
    ImageUnavailable,
    NameTaken,
)
from shared.containers.states import ContainerState, EngineEvent, Listed

_NOT_FOUND: Final = 404
_CONFLICT: Final = 409
_NOT_MODIFIED: Final = 304
_NO_CONNECTION: Final = 900
"""What aiodocker has for a status when there was no answer."""

STOP_MARGIN_S: Final = 15.0
"""What the engine may take beyond the grace of a container that is stopped."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the engine may take.

    Attributes:
        quick_s: For questions.
        slow_s: For what changes a container; a busy disk takes its time.
        silence_s: Between two messages of a pull.
    """

    quick_s: float = 15.0
    slow_s: float = 60.0
    silence_s: float = 120.0


class Engine:
    """One engine, named as Docker's own tools name it (``DOCKER_HOST``, contexts, the socket).

    Nothing is asked when it is entered; :meth:`ping` does. Every call raises
    :class:`EngineUnavailable` when no engine answers in time, and :class:`ContainerError` when it
    refuses, or says what cannot be understood.
    """

    def __init__(
        self, environ: Mapping[str, str] | None = None, *, patience: Patience | None = None
    ) -> None:
        self._environ = os.environ if environ is None else environ
        self._patience = patience or Patience()
        self._client: aiodocker.Docker | None = None

    async def __aenter__(self) -> Self:
        """Raises: ConfigError: The variables or Docker's configuration cannot be used."""
        address = await asyncio.to_thread(find_engine, dict(self._environ))
        self._client = _client(address)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._client is not None:
            await self._client.close()

    async def ping(self) -> str:
        """Its version."""
        async with self._call(self._patience.quick_s) as docker:
            return str((await docker.version())["Version"])

    async def cpus(self) -> int:
        """How many processors its host has."""
        async with self._call(self._patience.quick_s) as docker:
            return int((await docker.system.info())["NCPU"])

    async def has_image(self, image: str) -> bool:
        """Whether the image is there; nothing is pulled."""
        async with self._call(self._patience.quick_s) as docker:
            try:
                await docker.images.inspect(image)
            except aiodocker.DockerError as exc:
                if exc.status != _NOT_FOUND:
                    raise
                return False
            return True

    async def pull(self, image: str) -> AsyncGenerator[dict[str, Any]]:
        """Have the image fetched; yields the engine's messages about it.

        Raises:
            ImageUnavailable: It cannot be had.
        """
        try:
            async with self._call(self._patience.slow_s) as docker:
                messages = docker.images.pull(image, stream=True).__aiter__()
            while True:
                async with self._call(self._patience.silence_s):
                    message = await anext(messages, None)
                if message is None:
                    return
                yield message
        except EngineUnavailable:
            raise
        except ContainerError as exc:
            raise ImageUnavailable(
                f"the image {image} is not there and cannot be pulled: {exc.message}",
                hint="`docker pull` it, or build it with `make image`; EXECUTOR_IMAGE names it",
            ) from exc

    async def create(self, name: str, config: Mapping[str, Any]) -> str:
        """Create a container and return its id; it does not run yet.

        Raises:
            NameTaken: A container of that name exists.
            ImageUnavailable: The image is not there.
        """
        async with self._call(self._patience.slow_s) as docker:
            try:
                return (await docker.containers.create(dict(config), name=name)).id
            except aiodocker.DockerError as exc:
                if exc.status == _CONFLICT:
                    raise NameTaken(f"there is a container called {name} already") from exc
                if exc.status == _NOT_FOUND and "image" in exc.message.lower():
                    raise ImageUnavailable(f"the image {config['Image']} is not there") from exc
                raise

    async def put_files(
        self,
        container_id: str,
        folder: PurePosixPath,
        files: Mapping[str, bytes],
        owner: tuple[int, int],
    ) -> None:
        """Write files that only *owner* may read into a container, even one that never ran.

        With a read-only root the folder has to be in a volume.
        """
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), 0o400
                entry.uid, entry.gid = owner
                tar.addfile(entry, io.BytesIO(content))
        async with self._call(self._patience.slow_s) as docker:
            container = docker.containers.container(container_id)
            await container.put_archive(  # type: ignore[no-untyped-call]
                str(folder), archive.getvalue()
            )

    async def start(self, container_id: str) -> None:
        """Start a container; returns when its first process runs."""
        async with self._call(self._patience.slow_s) as docker:
            await docker.containers.container(container_id).start()

    async def inspect(self, container: str) -> ContainerState | None:
        """How a container is, by id or name; ``None``: there is none."""
        async with self._call(self._patience.quick_s) as docker:
            try:
                shown = await docker.containers.container(container).show()
            except aiodocker.DockerError as exc:
                if exc.status != _NOT_FOUND:
                    raise
                return None
            return ContainerState.read(shown)

    async def wait(self, container_id: str) -> None:
        """Return when a container that was started does not run any more; bounded by nothing."""
        async with self._call(None) as docker, _unless(_NOT_FOUND):
            await docker.containers.container(container_id).wait()

    async def logs(self, container_id: str, lines: int) -> str:
        """The last *lines* of what a container wrote, both streams; empty when it is going."""
        async with self._call(self._patience.quick_s) as docker:
            container = docker.containers.container(container_id)
            try:
                return "".join(await container.log(stdout=True, stderr=True, tail=lines))
            except aiodocker.DockerError as exc:
                if exc.status not in (_NOT_FOUND, _CONFLICT):
                    raise
                return ""

    async def stop(self, container_id: str, grace_s: int) -> None:
        """Ask a container's first process to end, and kill it after *grace_s* seconds."""
        async with self._call(grace_s + STOP_MARGIN_S) as docker, _unless(_NOT_FOUND):
            await docker.containers.container(container_id).stop(t=grace_s)

    async def remove(self, container_id: str) -> None:
        """Kill and remove a container with its anonymous volumes; harmless when it is gone."""
        async with self._call(self._patience.slow_s) as docker, _unless(_NOT_FOUND):
            container = docker.containers.container(container_id)
            try:
                await container.delete(force=True, v=True)
            except aiodocker.DockerError as exc:
                if exc.status != _CONFLICT:
                    raise
                await container.wait(condition="removed")  # somebody else is at it already

    async def rename(self, container_id: str, name: str) -> None:
        """Give a container another name.

        Raises:
            NameTaken: A container of that name exists.
        """
        async with self._call(self._patience.slow_s) as docker:
            try:
                await docker.containers.container(container_id).rename(name)
            except aiodocker.DockerError as exc:
                if exc.status == _CONFLICT:
                    raise NameTaken(f"there is a container called {name} already") from exc
                raise

    async def pause(self, container_id: str) -> None:
        """Stop every process of a container where it stands."""
        async with self._call(self._patience.slow_s) as docker:
            await docker.containers.container(container_id).pause()

    async def unpause(self, container_id: str) -> None:
        """Let the processes of a paused container go on."""
        async with self._call(self._patience.slow_s) as docker:
            await docker.containers.container(container_id).unpause()

    async def containers(self, labels: Mapping[str, str]) -> list[Listed]:
        """All containers that have these labels, running or not."""
        filters = json.dumps({"label": _label_filters(labels)})
        async with self._call(self._patience.quick_s) as docker:
            return [Listed.read(c) for c in await docker.containers.list(all=True, filters=filters)]

    async def remove_unused_volumes(self, labels: Mapping[str, str]) -> bool:
        """Remove the anonymous volumes with these labels that no container has.

        Returns:
            Whether that was done: an engine does it for one at a time, whosever they are.
        """
        async with self._call(self._patience.slow_s) as docker:
            try:
                await docker.volumes.prune(filters={"label": _label_filters(labels)})
            except aiodocker.DockerError as exc:
                if exc.status != _CONFLICT:
                    raise
                return False
            return True

    @asynccontextmanager
    async def events(self, labels: Mapping[str, str]) -> AsyncIterator[AsyncIterator[EngineEvent]]:
        """What happens to the containers with these labels, from the moment this is entered.

        Reading goes on until the engine goes away, which raises :class:`EngineUnavailable`.
        """
        await self.ping()  # learns the version of the API
        filters = {"type": ["container"], "label": _label_filters(labels)}
        async with self._call(None) as docker:
            # Not DockerEvents: that does not tell when it listens, nor why it has ended.
            url = f"{docker.docker_host}/{docker.api_version}/events"
            async with asyncio.timeout(self._patience.quick_s):
                response = await docker.session.get(url, params={"filters": json.dumps(filters)})
        async with response:
            yield self._read_events(response)

    async def _read_events(self, response: aiohttp.ClientResponse) -> AsyncIterator[EngineEvent]:
        async with self._call(None):
            async for line in response.content:
                try:
                    event = EngineEvent.read(json.loads(line))
                except ValueError:
                    break  # half a line: the last one of an engine that has ended
                yield event
        raise EngineUnavailable("the engine has ended its stream of events")

    @asynccontextmanager
    async def _call(self, within_s: float | None) -> AsyncIterator[aiodocker.Docker]:
        if self._client is None:
            raise RuntimeError("the engine was not entered")
        try:
            async with asyncio.timeout(within_s):
                yield self._client
        except TimeoutError as exc:
            raise EngineUnavailable(
                f"the Docker engine did not answer within {within_s:g} s"
                if within_s
                else "the Docker engine did not answer"
            ) from exc
        except aiodocker.DockerError as exc:
            if exc.status == _NO_CONNECTION:
                raise EngineUnavailable("no Docker engine answers") from exc
            raise ContainerError(f"the Docker engine refused: {exc.message}") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise EngineUnavailable("the connection to the Docker engine was lost") from exc
        except (LookupError, TypeError, ValueError, AttributeError) as exc:
            raise ContainerError("the Docker engine's answer cannot be understood") from exc


@asynccontextmanager
async def _unless(*statuses: int) -> AsyncIterator[None]:
    try:
        yield
    except aiodocker.DockerError as exc:
        if exc.status not in statuses:
            raise


def _client(address: Address) -> aiodocker.Docker:
    try:
        return aiodocker.Docker(url=address.url, ssl_context=address.tls)
    except RuntimeError as exc:  # a named pipe needs Windows' own event loop
        raise EngineUnavailable(f"the engine cannot be reached from here: {exc}") from exc


def _label_filters(labels: Mapping[str, str]) -> list[str]:
    return [f"{name}={value}" for name, value in labels.items()]
