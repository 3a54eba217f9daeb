"""Skills of a request, as they lie ready for the agent."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import os
import stat
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from executor.agents.skills import SkillSet
from executor.tasks.staging.fetching import Fetcher
from executor.tasks.staging.skill_cache import SkillCache
from executor.tasks.staging.skills import Skills
from shared.errors import Refusal, RunError
from shared.protocol.execution import ExecutionRequest, read_execution_request
from shared.status import ErrorCode

TOKEN = "s3cr3t-token"
SKILL = "---\nname: x\ndescription: Greets\nallowed-tools: Bash\n---\nSay hello.\n"
PLAIN = '---\nname: "greet"\ndescription: Greets\n---\nSay hello.\n'


def archive(**files: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        for name, text in {"SKILL.md": SKILL, **files}.items():
            packed.writestr(name, text)
    return out.getvalue()


def request(skills: Any, **fields: Any) -> ExecutionRequest:
    raw = {"task_id": 7, "subtask_id": 1, "prompt": "go", "skills": skills, **fields}
    return read_execution_request(raw)


class Backend:
    """Serves archives at ``/skills/{name}``, and remembers who asked with which token."""

    def __init__(self) -> None:
        self.url = ""
        self.archives: dict[str, bytes] = {}
        self.asked: list[tuple[str, str | None]] = []

    async def handle(self, asked: web.Request) -> web.Response:
        name = asked.match_info["name"]
        self.asked.append((name, asked.headers.get("Authorization")))
        if name not in self.archives:
            return web.Response(status=404)
        return web.Response(body=self.archives[name])


@pytest.fixture
async def backend() -> AsyncIterator[Backend]:
    backend = Backend()
    app = web.Application()
    app.router.add_get("/skills/{name}", backend.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    backend.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield backend
    await runner.cleanup()


@pytest.fixture
def session(tmp_path: Path) -> Path:
    path = tmp_path / "workspace" / "7"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def skills(tmp_path: Path, cache: Path, backend: Backend) -> Skills:
    (tmp_path / "scratch").mkdir()
    fetcher = Fetcher(backend_url=backend.url, environ={})
    return Skills(fetcher, SkillCache(cache), tmp_path / "scratch")


async def place(skills: Skills, wanted: ExecutionRequest, session: Path) -> SkillSet | None:
    skills.check(wanted)
    async with skills.staged(wanted, session) as put:
        return await asyncio.to_thread(put)


async def untouched(skills: SkillSet) -> bool:
    return await asyncio.to_thread(skills.is_untouched)


def files_in(directory: Path) -> dict[str, str]:
    return {
        path.relative_to(directory).as_posix(): path.read_text()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


MANIFEST = json.dumps({"name": "session", "version": "1.0.0"})


@pytest.mark.parametrize(
    "given",
    [
        {"files": {"SKILL.md": SKILL, "scripts/run.sh": "#!/bin/sh\n"}},
        {"files": {"SKILL.md": {"content_base64": base64.b64encode(SKILL.encode()).decode()},
                   "scripts/run.sh": "#!/bin/sh\n"}},
        {"archive_base64": base64.b64encode(archive(**{"scripts/run.sh": "#!/bin/sh\n"})).decode()},
    ],
)  # fmt: skip
async def test_a_skill_lies_ready_without_what_it_may_not_say(
    skills: Skills, session: Path, given: dict[str, Any]
) -> None:
    placed = await place(skills, request({"greet": given}), session)

    assert placed is not None
    assert placed.folder == session / ".skills"
    assert placed.names == ("greet",)
    assert await untouched(placed)
    assert files_in(placed.folder) == {
        ".claude-plugin/plugin.json": MANIFEST,
        "skills/greet/SKILL.md": PLAIN,
        "skills/greet/scripts/run.sh": "#!/bin/sh\n",
    }
    assert [path.name for path in session.iterdir()] == [".skills"]


async def test_a_script_that_is_given_inline_can_be_started(skills: Skills, session: Path) -> None:
    files = {"SKILL.md": SKILL, "run.sh": "#!/bin/sh\n", "data": "x"}

    await place(skills, request({"greet": files}), session)

    folder = session / ".skills" / "skills" / "greet"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {"SKILL.md": 0o600, "run.sh": 0o700, "data": 0o600}


@pytest.mark.parametrize("name", ["hooks", "commands", "agents", "skills", "bin"])
async def test_the_name_of_a_skill_makes_it_nothing_else(
    skills: Skills, session: Path, name: str
) -> None:
    files = {"SKILL.md": SKILL, "hooks.json": "{}"}

    await place(skills, request({name: files}), session)

    assert {path.name for path in (session / ".skills").iterdir()} == {".claude-plugin", "skills"}


async def test_other_skills_replace_those_of_the_run_before(skills: Skills, session: Path) -> None:
    first = await place(skills, request({"old": {"SKILL.md": SKILL}}), session)
    second = await place(skills, request({"greet": {"SKILL.md": SKILL}}), session)

    assert first is not None
    assert second is not None
    assert first.digest != second.digest
    assert not await untouched(first)
    assert sorted(files_in(session)) == [
        ".skills/.claude-plugin/plugin.json",
        ".skills/skills/greet/SKILL.md",
    ]


async def test_the_same_skills_stay_where_they_are(skills: Skills, session: Path) -> None:
    wanted = request({"greet": {"SKILL.md": SKILL}})
    first = await place(skills, wanted, session)
    inode = (session / ".skills").stat().st_ino

    assert await place(skills, wanted, session) == first
    assert (session / ".skills").stat().st_ino == inode


@pytest.mark.parametrize("leads_to", ["folder", "file", "nowhere"])
async def test_skills_with_a_link_among_them_are_not_as_they_were_made(
    skills: Skills, session: Path, tmp_path: Path, leads_to: str
) -> None:
    placed = await place(skills, request({"greet": {"SKILL.md": SKILL}}), session)
    assert placed is not None
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()

    (placed.folder / "hooks").symlink_to(tmp_path / leads_to)

    assert not await untouched(placed)


async def test_what_somebody_has_changed_is_placed_again(skills: Skills, session: Path) -> None:
    wanted = request({"greet": {"SKILL.md": SKILL}})
    first = await place(skills, wanted, session)
    assert first is not None
    (session / ".skills" / "hooks").mkdir()
    (session / ".skills" / "hooks" / "hooks.json").write_text("{}")
    assert not await untouched(first)

    assert await place(skills, wanted, session) == first

    assert await untouched(first)


@pytest.mark.parametrize("change", ["link", "folder link", "executable", "pipe"])
async def test_any_change_is_noticed(
    skills: Skills, session: Path, tmp_path: Path, change: str
) -> None:
    placed = await place(skills, request({"greet": {"SKILL.md": SKILL, "a": "x"}}), session)
    assert placed is not None
    skill = session / ".skills" / "skills" / "greet"
    match change:
        case "link":
            (tmp_path / "a").write_text("x")
            (skill / "a").unlink()
            (skill / "a").symlink_to(tmp_path / "a")
        case "folder link":
            skill.rename(tmp_path / "greet")
            skill.symlink_to(tmp_path / "greet")
        case "executable":
            (skill / "a").chmod(0o700)
        case _:
            os.mkfifo(skill / "pipe")

    assert not await untouched(placed)


async def test_a_run_without_skills_has_none_of_another(skills: Skills, session: Path) -> None:
    await place(skills, request({"old": {"SKILL.md": SKILL}}), session)

    assert await place(skills, request(["old"]), session) is None
    assert list(session.iterdir()) == []


async def test_an_archive_is_fetched_with_the_runs_token_once(
    skills: Skills, session: Path, backend: Backend
) -> None:
    backend.archives["greet"] = archive()
    sha256 = hashlib.sha256(archive()).hexdigest()
    wanted = request({"greet": {"url": "/skills/greet", "sha256": sha256}}, auth_token=TOKEN)

    for _ in range(2):
        placed = await place(skills, wanted, session)
        assert placed is not None
        assert files_in(session / ".skills")["skills/greet/SKILL.md"] == PLAIN

    assert backend.asked == [("greet", f"Bearer {TOKEN}")]


async def test_an_address_without_a_digest_is_asked_again(
    skills: Skills, session: Path, backend: Backend
) -> None:
    wanted = request({"greet": {"url": "/skills/greet"}})
    for text in ("one", "two"):
        backend.archives["greet"] = archive(text=text)
        await place(skills, wanted, session)
        assert files_in(session / ".skills")["skills/greet/text"] == text


async def test_the_token_goes_to_no_other_origin(
    tmp_path: Path, cache: Path, session: Path, backend: Backend
) -> None:
    fetcher = Fetcher(backend_url="http://127.0.0.1:1", environ={})
    skills = Skills(fetcher, SkillCache(cache), tmp_path)
    backend.archives["greet"] = archive()
    wanted = request({"greet": {"url": f"{backend.url}/skills/greet"}}, auth_token=TOKEN)

    await place(skills, wanted, session)

    assert backend.asked == [("greet", None)]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"url": "/skills/none"}, "answered 404"),
        ({"url": "/skills/greet", "sha256": "0" * 64}, "its sha256 differs"),
        ({"url": "/skills/text"}, "no zip, tar"),
        ({"archive_base64": "not base64!"}, "not valid Base64"),
        ({"archive_base64": "dGV4dA=="}, "no zip, tar"),
        ({"files": {"SKILL.md": {"content_base64": "!"}}}, "not valid Base64"),
        ({"files": {"SKILL.md": {"content_base64": "//79"}}}, "not UTF-8"),
    ],
)
async def test_a_skill_that_cannot_be_used_is_named_and_leaves_what_was_there(
    skills: Skills, session: Path, backend: Backend, given: dict[str, Any], words: str
) -> None:
    before = await place(skills, request({"old": {"SKILL.md": SKILL}}), session)
    backend.archives |= {"greet": archive(), "text": b"text"}

    with pytest.raises(RunError, match=words) as raised:
        await place(skills, request({"a": {"SKILL.md": SKILL}, "greet": given}), session)

    assert raised.value.error_code is ErrorCode.WORKSPACE_ERROR
    assert "'greet'" in str(raised.value)
    assert before is not None
    assert await untouched(before)
    assert [path.name for path in session.iterdir()] == [".skills"]


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://h/x", "http://[::1/x"])
def test_an_address_that_cannot_be_fetched_is_refused(skills: Skills, url: str) -> None:
    with pytest.raises(Refusal, match="skills: the url of greet") as raised:
        skills.check(request({"greet": {"url": url}}))

    assert raised.value.error_code is ErrorCode.INVALID_REQUEST


async def test_nothing_is_left_of_skills_that_were_not_put(skills: Skills, session: Path) -> None:
    async with skills.staged(request({"greet": {"SKILL.md": SKILL}}), session):
        assert len(list(session.iterdir())) == 1

    assert list(session.iterdir()) == []
