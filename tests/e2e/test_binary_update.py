"""The built program, installed, updated and brought back by what an operator types."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import tarfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from executor.exit_status import ExitStatus
from scripts.scripted_model import ScriptedModel
from shared.protocol.local import LocalEvent
from tests.fakes.backend import TOKEN, open_backend
from tests.fakes.model import reaching, scenario, text_step
from tests.fakes.processes import executor_process, manager_process, running
from tests.fakes.programs import NAME, archive, program, put, sha256
from tests.fakes.runs import FinishedRun
from tests.fakes.user_systemd import NoUserSystemd, UserSystemd, user_systemd

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.name != "posix", reason="installs with a shell script"),
]

MINIMAL_PATH = "/usr/bin:/bin"


@dataclass(frozen=True)
class Versions:
    """Two that work, and one that does not run as an executor; each with its checksum beside it."""

    old: Path
    new: Path
    broken: Path

    def in_place(self, home: Path) -> tuple[Path, Path | None]:
        """Which of them *home* has, and which is its previous one."""
        entry = home / "bin" / NAME
        previous = entry.with_name(f"{NAME}.previous")
        return self._which(entry), self._which(previous) if previous.exists() else None

    def _which(self, entry: Path) -> Path:
        # A link leads into the folder that is named after its archive's checksum.
        start = entry.readlink().parent.name if entry.is_symlink() else sha256(entry.read_bytes())
        known = (self.old, self.new, self.broken)
        return next(path for path in known if sha256(path.read_bytes()).startswith(start))


@pytest.fixture(params=["file", "folder"])
def versions(
    request: pytest.FixtureRequest, binary: Path, program_folder: Path, tmp_path: Path
) -> Versions:
    """The program as it was built, the same with something that nobody needs, and another."""
    broken = program(run="exit 1")
    if request.param == "file":
        content = binary.read_bytes()
        # The loader looks for its archive from the end.
        contents = content, content + b"\n", broken
    else:
        packed = _archive_of(program_folder).read_bytes()
        contents = packed, _packed_with(program_folder, b"\n"), archive(broken)
    old, new, bad = (
        put(tmp_path / name, content)
        for name, content in zip(("old", "new", "broken"), contents, strict=True)
    )
    return Versions(old, new, bad)


def _archive_of(folder: Path) -> Path:
    """What the build puts beside the folder."""
    return folder.with_name(f"{folder.name}.tar.gz")


def _packed_with(folder: Path, unneeded: bytes) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", compresslevel=1) as tar:
        tar.add(folder, folder.name)
        entry = tarfile.TarInfo(f"{folder.name}/_internal/unneeded")
        entry.size = len(unneeded)
        tar.addfile(entry, io.BytesIO(unneeded))
    return packed.getvalue()


def test_the_archive_is_installed_from_where_it_was_built(
    program_folder: Path, tmp_path: Path, repository_root: Path
) -> None:
    install = repository_root / "scripts" / "install.sh"
    command = ("sh", install, "--from", _archive_of(program_folder), "--no-path")
    env = {"HOME": str(tmp_path), "PATH": MINIMAL_PATH}
    subprocess.run(command, env=env, check=True)
    installed = tmp_path / ".wegent-executor" / "bin" / NAME
    assert subprocess.run([installed, "--version"], env=env, check=True).returncode == 0


@pytest.fixture
async def systemd(tmp_path: Path) -> AsyncIterator[UserSystemd]:
    try:
        async with user_systemd(tmp_path) as systemd:
            yield systemd
    except NoUserSystemd as exc:
        pytest.skip(f"NO PROOF THAT A SERVICE IS UPDATED: {exc}")


async def test_a_service_is_updated_brought_back_and_saved_from_a_bad_version(
    systemd: UserSystemd, versions: Versions, repository_root: Path
) -> None:
    home = systemd.home / ".wegent-executor"

    async def run(*words: str | Path) -> tuple[int, str]:
        return await systemd.run(*map(str, words), PATH=MINIMAL_PATH)

    async def command(*words: str | Path) -> tuple[int, str]:
        return await run(home / "bin" / NAME, *words)

    async with asyncio.timeout(300), open_backend() as backend:
        install = repository_root / "scripts" / "install.sh"
        assert (await run("sh", install, "--from", versions.old, "--no-path"))[0] == 0
        (home / "config.env").write_text(
            f"WEGENT_BACKEND_URL={backend.url}\nWEGENT_AUTH_TOKEN={TOKEN}\n"
        )
        assert (await command("service", "install"))[0] == 0
        assert (await command("service", "start"))[0] == 0
        await backend.expect(LocalEvent.REGISTER)

        status, said = await command("update", "--from", versions.new)
        assert status == 0, said
        assert versions.in_place(home) == (versions.new, versions.old)
        await backend.expect(LocalEvent.REGISTER)

        status, said = await command("update", "--rollback")
        assert status == 0, said
        assert versions.in_place(home) == (versions.old, versions.new)
        await backend.expect(LocalEvent.REGISTER)

        status, said = await command("update", "--from", versions.broken)
        assert status == ExitStatus.FAILURE
        assert "the version before is back" in said
        assert versions.in_place(home) == (versions.old, None)
        await backend.expect(LocalEvent.REGISTER)

        assert (await command("service", "stop"))[0] == 0


async def test_a_conversation_goes_on_after_an_update_and_after_the_way_back(
    versions: Versions, repository_root: Path, claude: Path, tmp_path: Path
) -> None:
    home = tmp_path / "user" / ".wegent-executor"
    home.parent.mkdir()
    entry = home / "bin" / NAME
    install = repository_root / "scripts" / "install.sh"
    job = scenario(text_step("I remember"), prompt="And now?", history="Do it")

    async def run(*words: str | Path) -> str:
        env = {"PATH": MINIMAL_PATH, "HOME": str(home.parent)}
        async with running(*map(str, words[1:]), env=env, executable=str(words[0])) as program:
            assert await program.ended() == 0, program.output
        return program.output

    async with (
        asyncio.timeout(300),
        manager_process(tmp_path / "manager") as manager,
        ScriptedModel([job, scenario(text_step("Done"), prompt="Do it")]) as model,
    ):

        async def answer(prompt: str, session_id: str | None = None) -> FinishedRun:
            async with executor_process(
                home,
                manager.url,
                manager.executor_token,
                command=(),
                executable=str(entry),
                PATH=MINIMAL_PATH,
                WEGENT_CLAUDE_PATH=str(claude),
            ) as executor:
                await executor.registered()
                return await manager.run(prompt, reaching(model.url), session_id)

        await run("/bin/sh", install, "--from", versions.old, "--no-path")
        first = await answer("Do it")
        assert first.answer == "Done"

        assert "Updated to" in await run(entry, "update", "--from", versions.new)
        assert versions.in_place(home) == (versions.new, versions.old)
        assert (await answer("And now?", first.task["session_id"])).answer == "I remember"
        assert "is installed" in await run(entry, "update", "--from", versions.new)

        assert "Back to" in await run(entry, "update", "--rollback")
        assert versions.in_place(home) == (versions.old, versions.new)
        assert (await answer("And now?", first.task["session_id"])).answer == "I remember"
