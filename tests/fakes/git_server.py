"""A real git server on loopback: ``git http-backend`` behind Basic auth, with faults on demand."""

from __future__ import annotations

import asyncio
import base64
import os
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web


@dataclass
class GitServer:
    """Serves the bare repositories below *root* at ``/{name}.git``.

    Attributes:
        login: ``(user name, password)`` that every request needs; ``None``: anonymous.
        fault: ``None``, ``"hang"``, ``"cut"`` (of a pack), an HTTP status, or an address to
            redirect to.
        reached: Set when a request has come in, before any fault.
        logins: The credentials of every request, ``None`` for none.
        on_request: Called with each request while the client's git is waiting for its answer.
    """

    root: Path
    login: tuple[str, str] | None = None
    fault: str | int | None = None
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    logins: list[tuple[str, str] | None] = field(default_factory=list)
    on_request: Callable[[], None] = lambda: None
    port: int = 0

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}.git"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        given = _login_of(request)
        self.logins.append(given)
        await asyncio.to_thread(self.on_request)
        self.reached.set()
        if self.fault == "hang":
            await asyncio.Event().wait()
        if isinstance(self.fault, int):
            return web.Response(status=self.fault)
        if isinstance(self.fault, str) and self.fault.startswith("http"):
            raise web.HTTPFound(self.fault + request.raw_path)
        if self.login is not None and given != self.login:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'})
        status, headers, body = await self._backend(request)
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = len(body)
        await response.prepare(request)
        if self.fault == "cut" and request.method == "POST":
            await response.write(body[: len(body) // 2])
            assert request.transport is not None
            request.transport.close()
            return response
        await response.write(body)
        return response

    async def _backend(self, request: web.Request) -> tuple[int, dict[str, str], bytes]:
        environ = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "REQUEST_METHOD": request.method,
            "PATH_INFO": request.path,
            "QUERY_STRING": request.query_string,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
            "REMOTE_ADDR": "127.0.0.1",
        }
        process = await asyncio.create_subprocess_exec(
            "git",
            "http-backend",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environ,
        )
        output, _ = await process.communicate(await request.read())
        head, _, body = output.partition(b"\r\n\r\n")
        headers = dict(
            line.split(": ", 1) for line in head.decode("latin-1").split("\r\n") if ": " in line
        )
        status = int(headers.pop("Status", "200").split()[0])
        return status, headers, body


@asynccontextmanager
async def serving(root: Path) -> AsyncIterator[GitServer]:
    """A server that runs until the context is left."""
    server = GitServer(root)
    app = web.Application(client_max_size=1 << 28)
    app.router.add_route("*", "/{path:.*}", server.handle)
    # Hanging handlers are cancelled when their client goes, and at the end at the latest.
    runner = web.AppRunner(
        app, auto_decompress=False, handler_cancellation=True, shutdown_timeout=0.1
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server.port = runner.addresses[0][1]
        yield server
    finally:
        await runner.cleanup()


def _login_of(request: web.Request) -> tuple[str, str] | None:
    kind, _, encoded = request.headers.get("Authorization", "").partition(" ")
    if kind != "Basic":
        return None
    username, _, password = base64.b64decode(encoded).decode().partition(":")
    return username, password


IDENTITY = {
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
}


def git(directory: Path, *arguments: str) -> str:
    """Run git as a person would, in *directory*; its output."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=directory,
        env={**os.environ, **IDENTITY},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def make_repository(path: Path, files: dict[str, str]) -> Path:
    """A repository at *path* with one commit of *files* on ``main``."""
    path.mkdir(parents=True)
    git(path, "init", "--quiet", "--initial-branch=main")
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    git(path, "add", ".")
    git(path, "commit", "--quiet", "-m", "Begin")
    return path
