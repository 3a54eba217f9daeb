"""The containers of a pool: who has which, how many there are, and which goes first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from shared.containers.spec import ContainerMode


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a session's container is reached.

    Attributes:
        executor_url: ``http://host:port`` without a path.
        token: Opens its API.
    """

    executor_url: str
    container_id: str
    token: SecretStr


@dataclass(slots=True, eq=False)
class Member:
    """One container, from the moment its place is taken.

    Attributes:
        name: Its name on the engine, or the one it is going to have.
        session_id: Whom it serves; ``None``: nobody yet.
        endpoint: ``None`` while it starts.
        runs: Who holds it; without any it is idle.
        since: When it was started or taken up again; seconds of the monotonic clock, as *used*.
        died: Whether the engine has told of its end.
        stopped: Whether the engine has asked it to end before; nobody here has.
        out_of_memory: Whether the engine has told that a process in it was ended for its memory.
    """

    name: str
    image: str
    mode: ContainerMode
    directory: Path
    session_id: str | None = None
    endpoint: Endpoint | None = None
    runs: set[str] = field(default_factory=set)
    since: float = field(default_factory=time.monotonic)
    used: float = field(default_factory=time.monotonic)
    died: bool = False
    stopped: bool = False
    out_of_memory: bool = False

    @property
    def container_id(self) -> str | None:
        """``None`` while it starts."""
        return self.endpoint.container_id if self.endpoint else None

    @property
    def spare(self) -> bool:
        """Whether it may go when the room is needed: nobody holds it, and nobody starts it."""
        return self.endpoint is not None and not self.runs


class Members:
    """All of them. *limit*: so many there may be; whoever adds one asks :attr:`full` first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._all: dict[str, Member] = {}  # by name
        self._sessions: dict[str, Member] = {}

    def __iter__(self) -> Iterator[Member]:
        return iter(list(self._all.values()))

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, member: Member) -> bool:
        return self._all.get(member.name) is member

    def add(self, member: Member) -> None:
        """Take a place for *member*."""
        self._all[member.name] = member
        if member.session_id is not None:
            self._sessions[member.session_id] = member

    def drop(self, member: Member) -> None:
        """Free the place of *member*; harmless again."""
        if member in self:
            del self._all[member.name]
            if member.session_id is not None:
                del self._sessions[member.session_id]

    def of_session(self, session_id: str) -> Member | None:
        """The session's own."""
        return self._sessions.get(session_id)

    def of_container(self, container_id: str) -> Member | None:
        """The one with this container."""
        return next((m for m in self._all.values() if m.container_id == container_id), None)

    def knows(self, container_id: str, name: str) -> bool:
        """Whether a container is, or is going to be, one of them."""
        return name in self._all or self.of_container(container_id) is not None

    @property
    def warm(self) -> list[Member]:
        """Those that serve nobody yet, including those that start."""
        return [member for member in self._all.values() if member.session_id is None]

    @property
    def full(self) -> bool:
        """Whether another one would be too many."""
        return len(self._all) >= self._limit

    def victim(self) -> Member | None:
        """Which one to remove for another: a warm one, else the one that is idle for longest."""
        spare = [member for member in self._all.values() if member.spare]
        return min(spare, key=lambda m: (m.session_id is not None, m.used), default=None)
