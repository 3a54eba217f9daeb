"""Waiting until the executor in a container answers, and noticing at once when it never will."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import aiohttp

from shared.containers.errors import ContainerError

if TYPE_CHECKING:
    from shared.containers.engine import Engine

PROBE_LIMIT_S: Final = 5.0
FIRST_PAUSE_S: Final = 0.02
LONGEST_PAUSE_S: Final = 0.5

_OK: Final = 200


class Ended(Exception):
    """The container does not run (any more)."""


async def wait_until_ready(
    engine: Engine,
    http: aiohttp.ClientSession,
    container_id: str,
    network: str | None,
    *,
    state_limit_s: float,
    health_limit_s: float,
) -> str:
    """The URL of a container that has been started, once the executor inside answers.

    Args:
        network: See :meth:`ContainerState.url`.
        state_limit_s: Seconds until it runs and has an address.
        health_limit_s: Seconds from then on until ``/health`` answers.

    Raises:
        Ended: The container has ended.
        ContainerError: It did not get that far in time.
    """
    ended = asyncio.create_task(engine.wait(container_id))
    answers = asyncio.create_task(
        _answering(engine, http, container_id, network, state_limit_s, health_limit_s)
    )
    try:
        await asyncio.wait({ended, answers}, return_when=asyncio.FIRST_COMPLETED)
        if answers.done():
            return answers.result()
        ended.result()
        raise Ended
    finally:
        for task in (ended, answers):
            task.cancel()
        await asyncio.wait({ended, answers})
        for task in (ended, answers):
            if not task.cancelled():
                task.exception()  # looked at: asyncio need not complain


async def healthy(http: aiohttp.ClientSession, url: str) -> bool:
    """Whether an executor answers there, within five seconds."""
    try:
        async with (
            asyncio.timeout(PROBE_LIMIT_S),
            http.get(f"{url}/health", allow_redirects=False) as response,
        ):
            return response.status == _OK
    except (aiohttp.ClientError, OSError, TimeoutError):
        return False


async def _answering(
    engine: Engine,
    http: aiohttp.ClientSession,
    container_id: str,
    network: str | None,
    state_limit_s: float,
    health_limit_s: float,
) -> str:
    try:
        async with asyncio.timeout(state_limit_s):
            url = await _address(engine, container_id, network)
    except TimeoutError:
        raise ContainerError(
            f"the container did not run within {state_limit_s:g} s",
            hint="is it on the network that SANDBOX_NETWORK names?" if network else None,
        ) from None
    try:
        async with asyncio.timeout(health_limit_s):
            pause = FIRST_PAUSE_S
            while not await healthy(http, url):
                await asyncio.sleep(pause)
                pause = min(pause * 1.5, LONGEST_PAUSE_S)
    except TimeoutError:
        raise ContainerError(
            f"the executor in the container did not answer within {health_limit_s:g} s",
            hint="its log was saved; does it listen on all addresses, and can this machine reach"
            " the engine's containers?",
        ) from None
    return url


async def _address(engine: Engine, container_id: str, network: str | None) -> str:
    pause = FIRST_PAUSE_S
    while True:
        state = await engine.inspect(container_id)
        if state is None:
            raise Ended
        if state.running and (url := state.url(network)):
            return url
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE_S)
