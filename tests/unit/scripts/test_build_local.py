"""The build script: what it starts, what it leaves out, and what it puts beside the program."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import runpy
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from scripts import build_local
from scripts.binary.contents import Part, listing, parts_of_folder
from scripts.binary.ingredients import EXCLUDED, PURPOSES, make_lean, purpose
from scripts.binary.stamp import Stamp, platform_name
from scripts.build_local import Build, BuildError, parse, write_archive, write_checksums

IMPORT_ALL = """
import importlib, pkgutil, sys
from scripts.binary.ingredients import EXCLUDED

def left_out(name):
    return any(name == module or name.startswith(module + ".") for module in EXCLUDED)

class LeftOut:
    def find_spec(self, name, path=None, target=None):
        if left_out(name):
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, LeftOut())
import executor, shared
for package in (executor, shared):
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if module.name.startswith("executor.agents.agno."):
            continue  # needs the extra of that name, which no program has
        try:
            importlib.import_module(module.name)
        except AssertionError:
            pass  # for another system
        except ImportError as exc:  # perhaps for another system, too
            if left_out(exc.name or ""):
                raise
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""


def installed(package: str) -> Path:
    module = __import__(package)
    return Path(module.__path__[0])


def test_one_file_goes_into_dist_and_variants_do_not_overwrite_it(repository_root: Path) -> None:
    name = "wegent-executor.exe" if sys.platform == "win32" else "wegent-executor"
    dist = repository_root / "dist"
    assert parse([]).executable == dist / name
    assert parse(["--onedir"]).executable == dist / "onedir" / "wegent-executor" / name
    assert parse(["--with-claude"]).executable == dist / "with-claude" / name
    both = parse(["--onedir", "--with-claude"])
    assert both.product == dist / "onedir-with-claude" / "wegent-executor"


def test_arguments_that_do_not_exist_are_errors() -> None:
    with pytest.raises(SystemExit) as exc:
        parse(["--one-dir"])
    assert exc.value.code == 2


def test_pyinstaller_is_started_with_this_python_and_told_the_variant(tmp_path: Path) -> None:
    order = parse(["--onedir", "--with-claude", "--output", str(tmp_path), "--work", str(tmp_path)])
    command = order.command()
    assert command[:3] == [sys.executable, "-m", "PyInstaller"]
    assert command[command.index("--distpath") + 1] == str(tmp_path)
    assert command[command.index("--") + 1 :] == [
        str(tmp_path),
        "wegent-executor",
        "onedir",
        "with-claude",
    ]
    assert parse([]).command()[-1] == "wegent-executor"


def test_the_executor_imports_without_what_is_left_out(
    tmp_path: Path, repository_root: Path
) -> None:
    make_lean(installed("mcp"), tmp_path)
    path = os.pathsep.join([str(tmp_path), str(repository_root)])
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    imported = set(done.stdout.split())
    assert {"executor", "claude_agent_sdk", "mcp", "socketio", "uvicorn", "aiodocker"} <= imported
    # What would make the binary large: nothing may lead there.
    assert imported.isdisjoint({"httpx2", "sqlalchemy", "agno", "obstore", "cryptography"})


def test_what_is_left_out_says_why() -> None:
    assert all(EXCLUDED.values())
    assert all(PURPOSES.values())


def test_a_part_has_the_purpose_of_its_package() -> None:
    assert purpose("libpython3.11.so.1.0") == PURPOSES["libpython"]
    assert purpose("aiohttp/_http_parser.cpython-311-x86_64-linux-gnu.so") == PURPOSES["aiohttp"]
    assert purpose("python3.11/lib-dynload/_codecs_cn.so") == PURPOSES["_codecs_cn"]
    assert purpose("python3.11/lib-dynload/_json.so") == PURPOSES["python3"]
    assert purpose("libexpat.so.1") == PURPOSES["libexpat"]
    assert purpose("nobody/knows.txt") == ""


def test_the_stamp_is_a_module_that_says_commit_and_platform(tmp_path: Path) -> None:
    Stamp("abc1234", "linux-x86_64").write(tmp_path / "stamp")
    said = runpy.run_path(str(tmp_path / "stamp" / "wegent_build.py"))
    assert said["COMMIT"] == "abc1234"
    assert said["PLATFORM"] == "linux-x86_64"


def test_the_stamp_tells_a_changed_checkout_from_a_clean_one(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        who = ("-c", "user.name=n", "-c", "user.email=e@example.org")
        done = subprocess.run(
            ["git", *who, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    assert Stamp.of(tmp_path).commit == "unknown"
    git("init", "--quiet")
    (tmp_path / "file").write_text("before")
    git("add", "file")
    git("commit", "--quiet", "--message", "first")
    clean = Stamp.of(tmp_path).commit
    assert git("rev-parse", "HEAD").startswith(clean)
    (tmp_path / "file").write_text("after")
    assert Stamp.of(tmp_path).commit == f"{clean}+changes"


@pytest.mark.parametrize(
    ("system", "machine", "name"),
    [
        ("Linux", "x86_64", "linux-x86_64"),
        ("Linux", "aarch64", "linux-arm64"),
        ("Darwin", "arm64", "macos-arm64"),
        ("Windows", "AMD64", "windows-x86_64"),
    ],
)
def test_platforms_have_one_name_each(system: str, machine: str, name: str) -> None:
    assert platform_name(system, machine) == name


@pytest.mark.parametrize("onedir", [False, True])
def test_checksums_can_be_checked_where_they_lie(tmp_path: Path, onedir: bool) -> None:
    order = Build(onedir=onedir, with_claude=False, output=tmp_path, work=tmp_path)
    order.executable.parent.mkdir(exist_ok=True)
    order.executable.write_bytes(b"program")
    if onedir:
        (order.product / "_internal").mkdir()
        (order.product / "_internal" / "library").write_bytes(b"library")
    write_checksums(order)
    listed = (tmp_path / "wegent-executor.sha256").read_text().splitlines()
    files = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".sha256"]
    assert sorted(listed) == sorted(
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(tmp_path).as_posix()}"
        for path in files
    )


def test_the_folder_is_also_an_archive_with_its_checksum(tmp_path: Path) -> None:
    order = Build(onedir=True, with_claude=False, output=tmp_path, work=tmp_path)
    (order.product / "_internal").mkdir(parents=True)
    (order.product / "_internal" / "library").write_bytes(b"library")
    order.executable.write_bytes(b"program")
    order.executable.chmod(0o755)
    write_archive(order)
    packed = tmp_path / "wegent-executor.tar.gz"
    digest = hashlib.sha256(packed.read_bytes()).hexdigest()
    beside = tmp_path / "wegent-executor.tar.gz.sha256"
    assert beside.read_text() == f"{digest}  wegent-executor.tar.gz\n"
    with tarfile.open(packed) as tar:
        entries = {entry.name: entry for entry in tar}
    assert {"wegent-executor/wegent-executor", "wegent-executor/_internal/library"} <= set(entries)
    assert entries["wegent-executor/wegent-executor"].mode & 0o111
    assert {(entry.uid, entry.uname) for entry in entries.values()} == {(0, "")}


def test_a_listing_has_the_largest_part_first_and_the_sum_last(tmp_path: Path) -> None:
    (tmp_path / "small.so").write_bytes(b"1")
    (tmp_path / "libssl.so.3").write_bytes(b"4444")
    lines = listing("what it is", parts_of_folder(tmp_path)).splitlines()
    assert lines[0] == "what it is"
    assert [line.split()[0] for line in lines[3:]] == ["4", "1", "5"]
    assert PURPOSES["libssl"] in lines[3]
    assert "1,234" in listing("x", [Part("a", 1234, 0, "")])


def test_without_pyinstaller_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    order = Build(onedir=False, with_claude=False, output=tmp_path, work=tmp_path)
    with pytest.raises(BuildError, match="uv sync --group build"):
        build_local.build(order)
    assert build_local.main(["--work", str(tmp_path)]) == 1
    assert "uv sync --group build" in capsys.readouterr().err


def test_without_the_tools_of_the_system_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("PATH", str(tmp_path))
    order = Build(onedir=False, with_claude=False, output=tmp_path, work=tmp_path)
    with pytest.raises(BuildError, match="binutils"):
        build_local.build(order)


def test_an_sdk_that_brings_no_cli_along_cannot_be_carried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk = tmp_path / "claude_agent_sdk"
    sdk.mkdir()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(build_local, "_tools", tuple)
    monkeypatch.setattr(build_local, "installed", lambda _package: sdk)
    order = Build(onedir=False, with_claude=True, output=tmp_path, work=tmp_path / "work")
    with pytest.raises(BuildError, match="build without --with-claude"):
        build_local.build(order)
    assert not order.work.exists()
