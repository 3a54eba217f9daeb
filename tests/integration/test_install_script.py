"""scripts/install.sh, run by the shells of this machine in empty homes."""

from __future__ import annotations

import asyncio
import gzip
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from executor.config.local import LocalSettings
from executor.network.variables import NETWORK_VARIABLES
from executor.updating.program import InstalledProgram
from tests.fakes.authority import Authority, behind_tls
from tests.fakes.file_server import FileServer, file_server
from tests.fakes.programs import NAME, archive, checksum_line, program, put, sha256

SHELLS = [shell for shell in ("dash", "bash") if shutil.which(shell)]
FETCHERS = [fetcher for fetcher in ("curl", "wget") if shutil.which(fetcher)]
COMMANDS = ["cat", "chmod", "cp", "cut", "grep", "gzip", "ln", "ls", "mkdir", "mv", "rm", "sed"]
COMMANDS += ["sha256sum", "sh", "tail", "tar", "tr", "uname"]


@dataclass
class Installer:
    """Runs the script for a user whose home holds nothing.

    Attributes:
        environ: Further variables; an empty one is not set at all.
    """

    script: Path
    user_home: Path
    commands: Path
    shell: str = SHELLS[0]
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return Path(self.environ.get("WEGENT_EXECUTOR_HOME", self.user_home / ".wegent-executor"))

    @property
    def target(self) -> Path:
        return self.home / "bin" / NAME

    def offer(self, *names: str) -> None:
        """Put commands of this machine where the script finds them: nothing else is there."""
        self.commands.mkdir(exist_ok=True)
        for name in names:
            found = shutil.which(name)
            assert found is not None
            (self.commands / name).symlink_to(found)

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        usual = {"HOME": str(self.user_home), "PATH": str(self.commands), "SHELL": "/bin/bash"}
        found = shutil.which(self.shell)
        assert found is not None
        return subprocess.run(
            [found, self.script, *arguments],
            env={name: value for name, value in (usual | self.environ).items() if value},
            cwd=self.user_home,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def install(self, *arguments: str | Path) -> str:
        """Run it; what it says. Fails when it does."""
        ended = self.run(*arguments)
        assert ended.returncode == 0, ended.stderr
        assert ended.stderr == ""
        return ended.stdout

    def refuse(self, *arguments: str | Path, status: int = 1) -> str:
        """Run what must fail; its message. Nothing may be left of it."""
        ended = self.run(*arguments)
        assert ended.returncode == status, ended.stdout + ended.stderr
        left = [path for path in self.home.rglob("*") if ".new-" in path.name]
        assert left == []
        return ended.stderr


@pytest.fixture
def installer(repository_root: Path, tmp_path: Path) -> Installer:
    made = Installer(
        repository_root / "scripts" / "install.sh", tmp_path / "user", tmp_path / "commands"
    )
    made.user_home.mkdir()
    made.offer(*COMMANDS)
    return made


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as serving:
        yield serving


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_file_with_its_checksum_beside_it_is_installed(
    installer: Installer, tmp_path: Path, shell: str
) -> None:
    installer.shell = shell
    said = installer.install("--from", put(tmp_path / "a file", program("1.2.3")))

    assert installer.target.read_bytes() == program("1.2.3")
    assert f"Installed {NAME} 1.2.3 as {installer.target}" in said
    assert os.access(installer.target, os.X_OK)
    assert sorted(path.name for path in installer.target.parent.iterdir()) == [NAME]


@pytest.mark.parametrize("fetcher", FETCHERS)
@pytest.mark.parametrize("shell", SHELLS)
def test_an_address_is_downloaded_with_what_there_is(
    installer: Installer, server: FileServer, shell: str, fetcher: str
) -> None:
    installer.shell = shell
    installer.offer(fetcher)
    server.files = {NAME: program(), f"{NAME}.sha256": checksum_line(program())}

    installer.install("--from", server.url(NAME))

    assert installer.target.read_bytes() == program()
    assert server.requested == [NAME, f"{NAME}.sha256"]


def test_without_curl_and_wget_an_address_is_refused(
    installer: Installer, server: FileServer
) -> None:
    assert "neither curl nor GNU wget" in installer.refuse("--from", server.url(NAME))


@pytest.mark.skipif(shutil.which("busybox") is None, reason="needs BusyBox")
def test_a_fetcher_that_trusts_any_certificate_is_not_used(
    installer: Installer, server: FileServer
) -> None:
    busybox = shutil.which("busybox")
    assert busybox is not None
    (installer.commands / "wget").symlink_to(busybox)
    server.files = {NAME: program(), f"{NAME}.sha256": checksum_line(program())}

    assert "neither curl nor" in installer.refuse("--from", server.url(NAME))


@pytest.mark.parametrize("fetcher", FETCHERS)
def test_the_checksum_of_an_address_with_a_query_keeps_the_query(
    installer: Installer, server: FileServer, fetcher: str
) -> None:
    installer.offer(fetcher)
    server.files = {
        f"{NAME}?key=abcdef": program(),
        f"{NAME}.sha256?key=abcdef": checksum_line(program()),
    }

    said = installer.install("--from", server.url(f"{NAME}?key=abcdef"))

    assert installer.target.exists()
    assert "abcdef" not in said


@pytest.mark.parametrize("shell", SHELLS)
def test_another_checksum_is_refused_and_changes_nothing(
    installer: Installer, tmp_path: Path, shell: str
) -> None:
    installer.shell = shell
    installer.install("--from", put(tmp_path / "old", program("1")))
    new = put(tmp_path / "new", program("2"))
    new.with_name("new.sha256").write_bytes(checksum_line(b"something else"))

    assert "the checksum does not match" in installer.refuse("--from", new)
    assert "the checksum does not match" in installer.refuse("--from", new, "--sha256", "0" * 64)
    assert installer.target.read_bytes() == program("1")


def test_a_checksum_that_is_given_is_enough_in_any_case(
    installer: Installer, tmp_path: Path
) -> None:
    file = put(tmp_path / "new", program(), checksum=False)

    installer.install("--from", file, "--sha256", sha256(program()).upper())

    assert installer.target.exists()


def test_a_checksum_that_windows_has_written_is_read(installer: Installer, tmp_path: Path) -> None:
    file = put(tmp_path / "new", program(), checksum=False)
    file.with_name("new.sha256").write_text(f"{sha256(program()).upper()}\r\n", newline="")

    installer.install("--from", file)

    assert installer.target.exists()


def test_a_folder_that_was_not_packed_is_refused(installer: Installer, tmp_path: Path) -> None:
    folder = put(tmp_path / NAME / NAME, program()).parent

    assert "is a folder: give the .tar.gz" in installer.refuse("--from", folder)


def test_without_a_checksum_nothing_is_installed(
    installer: Installer, server: FileServer, tmp_path: Path
) -> None:
    file = put(tmp_path / "new", program(), checksum=False)
    assert "give it with --sha256" in installer.refuse("--from", file)

    installer.offer("curl")
    server.files = {NAME: program()}
    assert "give it with --sha256" in installer.refuse("--from", server.url(NAME))
    assert not installer.target.exists()


@pytest.mark.parametrize("text", ["", "<html>not found</html>", "abc123"])
def test_what_is_no_checksum_is_refused(installer: Installer, tmp_path: Path, text: str) -> None:
    file = put(tmp_path / "new", program())
    file.with_name("new.sha256").write_text(text)

    assert "checksum" in installer.refuse("--from", file)
    assert not installer.target.exists()


@pytest.mark.parametrize("fetcher", FETCHERS)
async def test_an_address_of_https_must_not_lead_to_one_of_http(
    installer: Installer, server: FileServer, tmp_path: Path, fetcher: str
) -> None:
    installer.offer(fetcher)
    authority = Authority(tmp_path / "authority")
    settings = put(tmp_path / "wgetrc", f"ca_certificate = {authority.file}\n".encode())
    installer.environ |= {"CURL_CA_BUNDLE": str(authority.file), "WGETRC": str(settings)}
    server.files = {NAME: program(), f"{NAME}.sha256": checksum_line(program())}
    server.redirects = {
        "elsewhere": server.url(NAME), "elsewhere.sha256": server.url(f"{NAME}.sha256"),
    }  # fmt: skip

    async with behind_tls(server.port, authority, "127.0.0.1") as url:
        said = await asyncio.to_thread(installer.refuse, "--from", f"{url}/elsewhere")
        assert "elsewhere could not be downloaded" in said or "is not https://" in said
        assert not installer.target.exists()

        await asyncio.to_thread(installer.install, "--from", f"{url}/{NAME}")
        assert installer.target.exists()


@pytest.mark.skipif("wget" not in FETCHERS, reason="NO PROOF OF wget: it is not installed")
def test_wget_says_why_a_download_fails(installer: Installer, server: FileServer) -> None:
    installer.offer("wget")

    said = installer.refuse("--from", server.url(NAME))

    assert "could not be downloaded: " in said
    assert "404" in said


@pytest.mark.parametrize("fetcher", FETCHERS)
def test_a_download_that_is_cut_off_leaves_what_was_installed(
    installer: Installer, server: FileServer, tmp_path: Path, fetcher: str
) -> None:
    installer.offer(fetcher)
    installer.install("--from", put(tmp_path / "old", program("1")))
    server.files = {NAME: program("2"), f"{NAME}.sha256": checksum_line(program("2"))}
    server.cut = {NAME}

    said = installer.refuse("--from", server.url(NAME))

    assert "could not be downloaded" in said
    assert installer.target.read_bytes() == program("1")


def test_a_script_of_which_a_part_is_missing_does_nothing(
    installer: Installer, tmp_path: Path
) -> None:
    whole = installer.script.read_text()
    installer.script = tmp_path / "install.sh"
    file = put(tmp_path / "new", program())
    installer.script.write_text(whole.removesuffix('main "$@"\n'))

    installer.run("--from", file)

    assert list(installer.user_home.iterdir()) == []


def test_plain_http_over_a_network_needs_the_checksum_on_the_command_line(
    installer: Installer,
) -> None:
    installer.offer("curl")
    said = installer.refuse("--from", "http://downloads.invalid/wegent-executor", status=2)

    assert "http:// needs --sha256" in said


def test_a_login_in_an_address_is_refused_and_not_repeated(installer: Installer) -> None:
    said = installer.refuse("--from", "https://me:pass123@downloads.invalid/x", status=2)

    assert "login" in said
    assert "pass123" not in said


@pytest.mark.parametrize(
    "arguments", [[], ["--from"], ["--from", ""], ["--form", "x"], ["--from", "ftp://x/y"]]
)
def test_wrong_arguments_are_errors_of_usage(installer: Installer, arguments: list[str]) -> None:
    assert installer.refuse(*arguments, status=2).startswith("install.sh: ")


def test_what_does_not_run_here_or_is_something_else_is_refused(
    installer: Installer, tmp_path: Path
) -> None:
    broken = put(tmp_path / "broken", b"\x7fELF of another machine")
    other = put(tmp_path / "other", b"#!/bin/sh\necho something else 1.0\n")

    assert "does not run on this machine" in installer.refuse("--from", broken)
    assert f"it is not {NAME}" in installer.refuse("--from", other)
    assert not installer.target.exists()


def test_a_running_executor_is_not_exchanged(installer: Installer, tmp_path: Path) -> None:
    installer.install("--from", put(tmp_path / "old", program("1", status=0)))

    assert "update --from" in installer.refuse("--from", put(tmp_path / "new", program("2")))
    assert installer.target.read_bytes() == program("1", status=0)


@pytest.mark.parametrize("wrap", [bytes, archive])
def test_an_executor_that_was_started_meanwhile_is_not_exchanged(
    installer: Installer, tmp_path: Path, wrap: Callable[[bytes], bytes]
) -> None:
    started = tmp_path / "started"
    old = program("1").replace(b"exit 3", f"[ -e '{started}' ]; exit".encode())
    new = program("2").replace(b"--version)", f"--version) : >'{started}';".encode())
    installer.install("--from", put(tmp_path / "old", wrap(old)))
    before = installer.target.resolve()

    assert "is running" in installer.refuse("--from", put(tmp_path / "new", wrap(new)))
    assert installer.target.resolve() == before
    assert before.read_bytes() == old


def test_a_config_of_comments_is_made_for_its_owner_only(
    installer: Installer, tmp_path: Path
) -> None:
    installer.install("--from", put(tmp_path / "new", program()))

    config = installer.home / "config.env"
    assert mode_of(config) == 0o600
    assert mode_of(installer.home) == 0o700
    lines = config.read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []
    named = {match[1] for line in lines if (match := re.match(r"#([A-Z_]+)=", line))}
    known = {field.validation_alias for field in LocalSettings.model_fields.values()}
    known.update(NETWORK_VARIABLES)
    assert {"WEGENT_BACKEND_URL", "WEGENT_AUTH_TOKEN"} <= named <= known


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("link", [False, True])
def test_a_config_that_is_there_stays(
    installer: Installer, tmp_path: Path, shell: str, link: bool
) -> None:
    installer.shell = shell
    installer.home.mkdir()
    config = installer.home / "config.env"
    if link:
        config.symlink_to(tmp_path / "not there yet")
    else:
        config.write_text("WEGENT_AUTH_TOKEN=mine\n")

    installer.install("--from", put(tmp_path / "new", program()))

    if link:
        assert config.is_symlink() and not config.exists()
    else:
        assert config.read_text() == "WEGENT_AUTH_TOKEN=mine\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_the_shell_gets_its_line_once(installer: Installer, tmp_path: Path, shell: str) -> None:
    installer.shell = shell
    file = put(tmp_path / "new", program())
    start_up = installer.user_home / ".bashrc"
    start_up.write_text("alias ll='ls -l'")  # no newline at its end

    installer.install("--from", file)
    installer.install("--from", file)

    line = 'export PATH="$HOME/.wegent-executor/bin":"$PATH"'
    assert start_up.read_text() == f"alias ll='ls -l'\n{line}\n"


@pytest.mark.parametrize(
    ("login_shell", "start_up"),
    [
        ("/bin/zsh", ".zshrc"),
        ("/bin/bash", ".bashrc"),
        ("/usr/bin/fish", ".config/fish/conf.d/wegent-executor.fish"),
        ("/bin/dash", ".profile"),
        ("", ".profile"),
    ],
)
def test_the_line_goes_to_the_file_of_the_users_shell(
    installer: Installer, tmp_path: Path, login_shell: str, start_up: str
) -> None:
    installer.environ["SHELL"] = login_shell
    installer.install("--from", put(tmp_path / "new", program()))

    made = [path for path in installer.user_home.rglob("*") if path.is_file()]
    assert [path for path in made if installer.home not in path.parents] == [
        installer.user_home / start_up
    ]
    assert ".wegent-executor/bin" in (installer.user_home / start_up).read_text()


@pytest.mark.parametrize(
    ("there", "start_up"),
    [
        ([], ".bash_profile"),
        ([".profile"], ".profile"),
        ([".bash_login", ".profile"], ".bash_login"),
        ([".bash_profile", ".bash_login", ".bashrc"], ".bash_profile"),
    ],
)
def test_on_macos_bash_gets_its_line_where_a_login_reads_it(
    installer: Installer, tmp_path: Path, there: list[str], start_up: str
) -> None:
    """bash reads one file only: a new one in front of it would hide what its user has."""
    (installer.commands / "uname").unlink()
    put(installer.commands / "uname", b"#!/bin/sh\necho Darwin\n", checksum=False).chmod(0o755)
    for name in there:
        (installer.user_home / name).touch()

    installer.install("--from", put(tmp_path / "new", program()))

    written = [path.name for path in installer.user_home.iterdir() if path.is_file()]
    assert sorted(written) == sorted({*there, start_up})
    assert ".wegent-executor/bin" in (installer.user_home / start_up).read_text()


@pytest.mark.parametrize("name", ["with some spaces", "it's $HOME", 'a "quoted" one'])
@pytest.mark.parametrize("shell", SHELLS)
def test_the_line_finds_the_program_in_a_home_of_any_name(
    installer: Installer, tmp_path: Path, shell: str, name: str
) -> None:
    installer.shell = shell
    installer.environ["WEGENT_EXECUTOR_HOME"] = str(tmp_path / name)

    said = installer.install("--from", put(tmp_path / "new", program("1.2.3")))

    found = subprocess.run(
        ["/bin/sh", "-c", f". ./.bashrc; {NAME} --version"],
        cwd=installer.user_home,
        env={"PATH": os.environ["PATH"], "HOME": str(installer.user_home)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == f"{NAME} 1.2.3\n"
    assert "as long as WEGENT_EXECUTOR_HOME is set" in said


def test_a_user_home_with_spaces_is_fine(installer: Installer, tmp_path: Path) -> None:
    installer.user_home = tmp_path / "user with spaces"
    installer.user_home.mkdir()

    installer.install("--from", put(tmp_path / "new", archive(program())))

    assert installer.target.resolve().is_file()


def test_no_path_is_added_when_told_or_when_it_is_there(
    installer: Installer, tmp_path: Path
) -> None:
    file = put(tmp_path / "new", program())
    installer.install("--from", file, "--no-path")
    installer.environ["PATH"] = f"{installer.commands}:{installer.target.parent}"
    installer.install("--from", file)

    assert [path.name for path in installer.user_home.iterdir()] == [".wegent-executor"]


def test_a_start_up_file_that_cannot_be_written_does_not_fail_the_installation(
    installer: Installer, tmp_path: Path
) -> None:
    (installer.user_home / ".bashrc").mkdir()

    said = installer.install("--from", put(tmp_path / "new", program()))

    assert "cannot be written" in said
    assert installer.target.exists()


@pytest.mark.parametrize("shell", SHELLS)
def test_an_archive_is_unpacked_beside_the_versions_before_it(
    installer: Installer, tmp_path: Path, shell: str
) -> None:
    installer.shell = shell
    old, new = archive(program("1")), archive(program("2"))
    installer.install("--from", put(tmp_path / "old.tar.gz", old))
    running = installer.target.resolve()

    installer.install("--from", put(tmp_path / "new.tar.gz", new))
    installer.install("--from", put(tmp_path / "new.tar.gz", new))

    folder = installer.home / "versions" / sha256(new)[:12]
    assert installer.target.resolve() == folder / NAME
    assert (folder / "_internal" / "library").read_bytes() == b"library"
    assert running.read_bytes() == program("1")


def test_a_folder_that_is_damaged_is_mended_by_installing_it_again(
    installer: Installer, tmp_path: Path
) -> None:
    file = put(tmp_path / "new.tar.gz", archive(program()))
    installer.install("--from", file)
    library = installer.target.resolve().parent / "_internal" / "library"
    library.write_bytes(b"")

    installer.install("--from", file)

    assert library.read_bytes() == b"library"
    assert [path.name for path in (installer.home / "versions").iterdir()] == [
        installer.target.resolve().parent.name
    ]


def test_what_a_killed_installation_has_left_goes_with_the_next_update(
    installer: Installer, tmp_path: Path
) -> None:
    tells_where = f'#!/bin/sh\necho "{NAME} $0"\n'.encode()
    said = installer.install("--from", put(tmp_path / "new.tar.gz", archive(tells_where)))
    tried_out = re.search(rf"Installed {NAME} (\S+/versions)/([^/]+)/", said)
    assert tried_out is not None
    versions = Path(tried_out[1])
    (versions / tried_out[2]).mkdir()

    InstalledProgram(installer.target, versions).tidy()

    assert list(versions.iterdir()) == [installer.target.resolve().parent]


def test_a_folder_in_the_place_of_the_program_is_refused(
    installer: Installer, tmp_path: Path
) -> None:
    installer.target.mkdir(parents=True)

    assert "is a folder" in installer.refuse("--from", put(tmp_path / "new", program()))
    assert list(installer.target.iterdir()) == []


def test_an_archive_of_something_else_is_refused(installer: Installer, tmp_path: Path) -> None:
    other = put(tmp_path / "other.tar.gz", archive(program(), name="something-else"))
    broken = put(tmp_path / "broken.tar.gz", archive(b"\x7fELF of another machine"))

    no_archive = put(tmp_path / "page.tar.gz", gzip.compress(b"<html>" * 500))

    assert "does not hold a folder" in installer.refuse("--from", other)
    assert "cannot be unpacked: tar: " in installer.refuse("--from", no_archive)
    assert "does not run on this machine" in installer.refuse("--from", broken)
    assert not installer.target.exists()
