"""Where the backend is, and what to tell a person when there is no way to it.

:func:`problem_of` is for every command that talks to the backend; for other addresses there is
:func:`executor.network.problem.diagnose`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self
from urllib.parse import urlsplit

from executor.network.problem import ConnectionProblem, Obstacle, diagnose
from executor.network.proxies import Proxy
from shared.protocol.local import SOCKETIO_PATH

_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


@dataclass(frozen=True, slots=True)
class BackendUrl:
    """``WEGENT_BACKEND_URL``, taken apart. As text it shows neither credentials nor query."""

    origin: str = field(repr=False)
    """Scheme, host, port, and whatever credentials and query the operator gave."""
    host: str
    """Host and port, as a proxy exception names them."""
    secure: bool
    prefix: str
    """Path before ``/socket.io``, without slashes at the ends; empty for none."""

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read ``http(s)`` or ``ws(s)``.

        Raises:
            ValueError: It is neither, or names no host; the message does not repeat it.
        """
        parts = urlsplit(url.strip())
        scheme = _SCHEMES.get(parts.scheme.lower())
        if scheme is None or not parts.hostname:
            raise ValueError("must be http(s)://host[:port][/path] or ws(s)://…")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        if parts.port is not None:
            host += f":{parts.port}"
        query = f"/?{parts.query}" if parts.query else ""
        return cls(
            origin=f"{scheme}://{parts.netloc}{query}",
            host=host,
            secure=scheme == "https",
            prefix=parts.path.strip("/"),
        )

    def __str__(self) -> str:
        scheme = "https" if self.secure else "http"
        return f"{scheme}://{self.host}" + (f"/{self.prefix}" if self.prefix else "")

    @property
    def socketio_path(self) -> str:
        """Where Socket.IO answers."""
        return f"{self.prefix}/{SOCKETIO_PATH}" if self.prefix else SOCKETIO_PATH


def problem_of(
    url: BackendUrl, error: BaseException, *, proxy: Proxy | None = None, timeout_s: float
) -> ConnectionProblem:
    """Why no connection to a backend at *url* could be made; see :func:`diagnose`."""
    problem = diagnose(error, where=str(url), proxy=proxy, timeout_s=timeout_s)
    match problem.kind:
        case Obstacle.ANSWER:
            answers = f"{url} answers, but not as a backend"
            message = answers if problem.status == 200 else problem.message
            return replace(problem, message=message, hint="is WEGENT_BACKEND_URL right?")
        case Obstacle.OTHER:
            name = type(error).__name__
            return replace(problem, message=f"{url} does not speak Socket.IO 5 ({name})")
        case _:
            return problem
