"""A user's home with credentials, an executor's home, and an agent that tries to get at both."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from scripts.scripted_model import ScriptedModel
from tests.fakes.agent_jobs import JobMaker, Turn, opened, take_turn
from tests.fakes.model import scenario, step, text_step

SECRET = "TOP SECRET"


def use(tool: str, **arguments: object) -> dict[str, object]:
    return {"tool": tool, "input": arguments}


def bash(command: str, **arguments: object) -> dict[str, object]:
    return use("Bash", command=command, **arguments)


class Site(ThreadingHTTPServer):
    """A server on this machine that remembers who came."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.visits: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Page(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self.server.visits.append(self.path)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"SERVED")

    def log_message(self, format: str, *args: object) -> None:
        pass


class House:
    """A user's home, with credentials, and the executor's home in it."""

    def __init__(self, tmp_path: Path) -> None:
        self.user = Path(os.environ["HOME"])
        self.root = tmp_path
        self.executor = tmp_path / "home"
        self.outside = tmp_path / "outside"
        self.secrets = [
            self.user / ".ssh" / "id_x",
            self.user / ".aws" / "credentials",
            self.user / ".netrc",
            self.user / ".git-credentials",
            self.user / ".config" / "gh" / "hosts.yml",
            self.user / ".docker" / "config.json",
            self.user / ".kube" / "config",
            self.user / ".npmrc",
            self.user / ".pypirc",
            self.user / ".gnupg" / "key",
            self.user / ".claude" / ".credentials.json",
            self.executor / "state.db",
            self.executor / "config.env",
            self.executor / "executor_id",
            self.executor / "private" / "mcp.json",
            self.executor / "workspace" / "2" / "file.txt",
        ]
        for path in self.secrets:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(SECRET, encoding="utf-8")
        self.outside.mkdir()
        self.escaped = f"escaped-{secrets.token_hex(8)}"
        """A name for files in the places that this machine's other programs use, too."""
        self.public = [Path(tempfile.gettempdir()), Path("/var/tmp"), Path("/")]

    def written(self) -> list[Path]:
        """Files named `escaped` that are anywhere they must not be."""
        found = [*self.user.rglob("escaped*"), *self.root.rglob("escaped*")]
        session = self.executor / "workspace" / "1"
        outside = [path for path in found if not path.is_relative_to(session)]
        return [*outside, *(place / self.escaped for place in self._reached())]

    def clean(self) -> None:
        """Remove what has been written beyond the folder of the test."""
        for place in self._reached():
            (place / self.escaped).unlink()

    def _reached(self) -> list[Path]:
        return [place for place in self.public if (place / self.escaped).exists()]


@asynccontextmanager
async def playing(
    house: House, *calls: dict[str, object], hosts: tuple[str, ...] = (), **fields: Any
) -> AsyncIterator[tuple[JobMaker, Turn]]:
    steps = [step(call) for call in calls]
    async with ScriptedModel([scenario(*steps, text_step("done"))]) as model:
        maker = JobMaker(house.root, model.url, hosts=hosts)
        async with opened(await asyncio.to_thread(lambda: maker.job(**fields))) as session:
            yield maker, await take_turn(session)


async def play(
    house: House, *calls: dict[str, object], hosts: tuple[str, ...] = (), **fields: Any
) -> Turn:
    """A turn in which every one of *calls* is made; *fields* are the request's."""
    async with playing(house, *calls, hosts=hosts, **fields) as (_, turn):
        assert turn.end.result == "done"
        assert len(turn.results) == len(calls)
        return turn


def git(cwd: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=cwd, check=True, capture_output=True, text=True
    ).stdout
