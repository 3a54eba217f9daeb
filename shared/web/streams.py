"""A run's events as Server-Sent Events: read the log, then follow it.

Every stream reads the log for itself, page by page and only as fast as its client takes it; so
every subscriber gets every event, and a slow one costs a page of memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, Final, Protocol

from sse_starlette import ServerSentEvent

from shared.protocol import wire_json
from shared.web.hub import Hub, WakeUp

KEEPALIVE_SECONDS: Final = 15.0
"""Without traffic for this long, a comment is sent. Source: the event format."""

PAGE_EVENTS: Final = 100
"""Events read at once at most; a log gives fewer when they are large."""

_CLOSE: Final = ServerSentEvent(event="close", data='{"message": "Stream closed"}', sep="\n")


class StreamedEvent(Protocol):
    """An event as a log gives it."""

    @property
    def sequence(self) -> int:
        """Its place among the run's events."""
        ...

    @property
    def type(self) -> str:
        """``category.action``."""
        ...

    @property
    def ends_run(self) -> bool:
        """Whether nothing follows it."""
        ...

    def to_dict(self) -> Mapping[str, Any]:
        """The shape that every door shows."""
        ...


class Log(Protocol):
    """Where events are read."""

    async def after(self, run_id: str, sequence: int, limit: int = ...) -> Sequence[StreamedEvent]:
        """The first events that follow *sequence*, at most *limit*; none when there are none."""
        ...


class Streams:
    """All open streams of this process."""

    def __init__(self, hub: Hub, *, keepalive_seconds: float = KEEPALIVE_SECONDS) -> None:
        self._hub = hub
        self._keepalive_seconds = keepalive_seconds
        self._open: set[WakeUp] = set()
        self._closing = False

    def close(self) -> None:
        """End every stream, and each one opened later at once.

        Without the closing event: the run goes on, and clients resume when they reconnect.
        """
        self._closing = True
        for wake_up in self._open:
            wake_up.set()

    async def follow(
        self, log: Log, run_id: str, *, after: int, finished_at: int | None
    ) -> AsyncGenerator[ServerSentEvent]:
        """The run's events that follow *after*, then its new ones up to the verdict.

        Args:
            finished_at: Sequence of the verdict, when the run already has one.
        """
        loop = asyncio.get_running_loop()
        position = after
        with self._hub.follow(run_id) as wake_up:
            self._open.add(wake_up)
            try:
                comment_due = loop.time() + self._keepalive_seconds
                while not self._closing:
                    if finished_at is not None and position >= finished_at:
                        yield _CLOSE
                        return
                    page = await log.after(run_id, position, PAGE_EVENTS)
                    for event in page:
                        yield _server_sent(event)
                        position = event.sequence
                        if event.ends_run:
                            finished_at = position
                    if page:
                        comment_due = loop.time() + self._keepalive_seconds
                        continue
                    try:
                        async with asyncio.timeout_at(comment_due):
                            await wake_up.wait()
                    except TimeoutError:
                        yield ServerSentEvent(comment="keep-alive", sep="\n")
                        comment_due = loop.time() + self._keepalive_seconds
            finally:
                self._open.discard(wake_up)


def _server_sent(event: StreamedEvent) -> ServerSentEvent:
    return ServerSentEvent(
        id=str(event.sequence),
        event=event.type,
        data=wire_json.dumps(event.to_dict()),
        sep="\n",
    )
