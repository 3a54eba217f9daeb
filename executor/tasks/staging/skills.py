"""The skills of a request, placed in ``{session}/.skills``, where the agent finds them.

The folder is a plugin: ``skills/{name}/…`` in it. A skill is never placed directly in the plugin's
folder, where names such as ``hooks`` mean something.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import aiohttp

from executor.agents.skills import SkillSet, folder_digest
from executor.session_places import SKILLS
from executor.tasks.staging.archives import MAX_ARCHIVE_BYTES, MAX_UNPACKED_BYTES, opened_archive
from executor.tasks.staging.fetching import Fetcher, Unusable
from executor.tasks.staging.folders import StagedFolder, remove_entry
from executor.tasks.staging.skill_cache import SkillCache
from executor.tasks.staging.skill_text import plain_skill
from shared.errors import ConfigError, Refusal, RunError
from shared.protocol.execution import ExecutionRequest
from shared.protocol.provisions import Skill, SkillFile
from shared.shielding import in_thread
from shared.status import ErrorCode

_PLUGIN: Final = "session"
"""What the agent sees before a skill's name."""

_MARKER: Final = "SKILL.md"


class Skills:
    """Places skills.

    Args:
        fetcher: Reads what a request gives by address.
        cache: Keeps archives that were fetched.
        scratch: A private folder for temporary files.
    """

    def __init__(self, fetcher: Fetcher, cache: SkillCache, scratch: Path) -> None:
        self._fetcher = fetcher
        self._cache = cache
        self._scratch = scratch

    def check(self, request: ExecutionRequest) -> None:
        """Refuse what can be seen to be unusable before anything is fetched.

        Raises:
            Refusal: ``invalid_request``, with the name of the skill.
        """
        for skill in request.all_skills:
            if skill.url is not None and not self._fetcher.can_fetch(request, skill.url):
                place = "skill_files" if skill in request.skill_files else "skills"
                raise Refusal(
                    ErrorCode.INVALID_REQUEST,
                    f"{place}: the url of {skill.name} must be an http or https address",
                )

    @asynccontextmanager
    async def staged(
        self, request: ExecutionRequest, session_dir: Path
    ) -> AsyncIterator[Callable[[], SkillSet | None]]:
        """Prepare the skills of *request*; what it yields puts them into their place, and blocks.

        Raises:
            RunError: ``workspace_error``, naming the skill.
        """
        skills = [skill for skill in request.all_skills if skill.brings_content]
        if not skills:
            yield lambda: remove_entry(session_dir, SKILLS)
            return
        folder = StagedFolder(session_dir, SKILLS)
        try:
            await in_thread(folder.open)
            await in_thread(_write, folder, ".claude-plugin/plugin.json", _manifest())
            async with aiohttp.ClientSession() as http:
                for skill in skills:
                    await self._fill(http, request, skill, folder)
            yield lambda: _put(folder, session_dir, skills)
        finally:
            await in_thread(folder.discard)

    async def _fill(
        self,
        http: aiohttp.ClientSession,
        request: ExecutionRequest,
        skill: Skill,
        folder: StagedFolder,
    ) -> None:
        try:
            if skill.files is not None:
                await in_thread(_write_files, folder, skill.name, skill.files)
            elif skill.archive_base64 is not None:
                archive = await in_thread(_decoded, skill.archive_base64)
                await in_thread(self._unpack, io.BytesIO(archive), folder, skill)
            else:
                await self._fill_from_address(http, request, skill, folder)
        except Unusable as exc:
            raise _failed(skill, str(exc)) from None
        except TimeoutError:
            raise _failed(skill, "the download took too long") from None
        except ConfigError as exc:
            raise _failed(skill, f"the download failed: {exc}") from None

    async def _fill_from_address(
        self,
        http: aiohttp.ClientSession,
        request: ExecutionRequest,
        skill: Skill,
        folder: StagedFolder,
    ) -> None:
        if skill.sha256 is not None:
            cached = await in_thread(self._cache.find, skill.sha256)
            if cached is not None:
                with cached:
                    await in_thread(self._unpack, cached, folder, skill)
                return
        part = await in_thread(self._cache.begin)
        try:
            source = _Address(skill.url)
            async with asyncio.timeout(self._fetcher.timeout_s):
                chunks = self._fetcher.read(http, request, source, MAX_ARCHIVE_BYTES)
                try:
                    async for chunk in chunks:
                        await in_thread(part.file.write, chunk)
                finally:
                    await chunks.aclose()
            sha256 = await in_thread(self._cache.keep, part)
            _check_digest(skill, sha256)
            await in_thread(self._unpack, part.file, folder, skill)
        finally:
            await in_thread(part.drop)

    def _unpack(self, file: BinaryIO, folder: StagedFolder, skill: Skill) -> None:
        with opened_archive(file, _MARKER, self._scratch) as entries:
            for entry in entries:
                place = _place(skill.name, entry.path)
                if entry.path == _MARKER:
                    content = plain_skill(b"".join(entry.chunks()), skill.name)
                    _write(folder, place, content)
                    continue
                with folder.create(place, executable=entry.executable) as target:
                    for chunk in entry.chunks():
                        target.write(chunk)


@dataclass(frozen=True, slots=True)
class _Address:
    url: str | None
    content: None = None
    content_base64: None = None
    size: None = None


def _put(folder: StagedFolder, session_dir: Path, skills: list[Skill]) -> SkillSet:
    digest = folder_digest(folder.path)
    if digest is None:
        raise RunError(ErrorCode.WORKSPACE_ERROR, "the skills were changed while they were placed")
    place = session_dir / SKILLS
    # What is as it should be stays: programs of a warm session may be looking at it.
    if folder_digest(place) != digest:
        folder.put()
    return SkillSet(place, tuple(skill.name for skill in skills), digest)


def _place(skill: str, path: str) -> str:
    return f"skills/{skill}/{path}"


def _manifest() -> bytes:
    return json.dumps({"name": _PLUGIN, "version": "1.0.0"}).encode()


def _write_files(folder: StagedFolder, name: str, files: dict[str, SkillFile]) -> None:
    total = 0
    for path, content in _contents(files):
        total += len(content)
        if total > MAX_UNPACKED_BYTES:
            raise Unusable(f"its files are larger than {MAX_UNPACKED_BYTES} bytes")
        if path == _MARKER:
            content = plain_skill(content, name)
        _write(folder, _place(name, path), content)


def _contents(files: dict[str, SkillFile]) -> Iterator[tuple[str, bytes]]:
    for path, file in files.items():
        if file.content is not None:
            yield path, file.content.encode("utf-8", "replace")
        else:
            yield path, _decoded(file.content_base64 or "")


def _write(folder: StagedFolder, place: str, content: bytes) -> None:
    # A script says what runs it; with nothing but its content there is no other sign.
    with folder.create(place, executable=content.startswith(b"#!")) as target:
        target.write(content)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise Unusable("its content is not valid Base64") from None


def _check_digest(skill: Skill, sha256: str) -> None:
    if skill.sha256 is not None and skill.sha256 != sha256:
        raise Unusable("the archive is another one: its sha256 differs")


def _failed(skill: Skill, reason: str) -> RunError:
    return RunError(ErrorCode.WORKSPACE_ERROR, f"skill {skill.name!r}: {reason}")
