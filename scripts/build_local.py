#!/usr/bin/env python3
"""Build the executor as a program that needs no Python, for the platform of this machine.

`uv sync --group build`, then `uv run python scripts/build_local.py`; or `make binary`.
Beside the program come its SHA-256 and a list of what is inside; beside the folder also the archive
that is installed and updated from.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if not __package__:  # started as a file: the repository's root belongs on the path, not this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from executor.packaged.carried_cli import ENTRY
from scripts.binary.contents import listing, parts_of_archive, parts_of_folder
from scripts.binary.ingredients import make_lean
from scripts.binary.payload import Cli, bundled_cli, write_payload
from scripts.binary.stamp import Stamp

ROOT = Path(__file__).resolve().parents[1]
NAME = "wegent-executor"
SPEC = Path("scripts/binary/bundle.spec")


class BuildError(Exception):
    """The program could not be built; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Build:
    """One build.

    Attributes:
        output: The folder for the program and what comes beside it.
        work: The folder for what is made on the way; it may be kept for the next build.
    """

    onedir: bool
    with_claude: bool
    output: Path
    work: Path

    @property
    def executable(self) -> Path:
        """The file to start."""
        name = f"{NAME}.exe" if sys.platform == "win32" else NAME
        return self.output / NAME / name if self.onedir else self.output / name

    @property
    def product(self) -> Path:
        """The file or folder to ship."""
        return self.executable.parent if self.onedir else self.executable

    def command(self) -> list[str]:
        """How PyInstaller is started, in the root of the checkout."""
        options = (["onedir"] if self.onedir else []) + (
            ["with-claude"] if self.with_claude else []
        )
        return [
            *(sys.executable, "-m", "PyInstaller", "--noconfirm", "--log-level", "ERROR"),
            *("--distpath", str(self.output), "--workpath", str(self.work / "pyinstaller")),
            *(str(SPEC), "--", str(self.work), NAME, *options),
        ]


def parse(argv: Sequence[str] | None = None) -> Build:
    """The build that the arguments ask for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument(
        "--onedir",
        action="store_true",
        help="a folder instead of one file: it starts faster; for packages and services",
    )
    parser.add_argument(
        "--with-claude",
        action="store_true",
        help="carry the Claude Code CLI along, compressed: 126 MB more",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help="folder for the result (dist, or with an option dist/onedir, dist/with-claude …)",
    )
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build" / "binary", help="folder for what is in between"
    )
    options = parser.parse_args(argv)
    variant = "-".join(
        name
        for name, on in (("onedir", options.onedir), ("with-claude", options.with_claude))
        if on
    )
    output = options.output or ROOT / "dist" / variant
    return Build(options.onedir, options.with_claude, output.resolve(), options.work.resolve())


def build(order: Build) -> Path:
    """Build; returns the file to start.

    Raises:
        BuildError: A part is missing, or what was built does not start.
    """
    if importlib.util.find_spec("PyInstaller") is None:
        raise BuildError("PyInstaller is missing: type `uv sync --group build`, or `make binary`")
    missing = [tool for tool in _tools() if shutil.which(tool) is None]
    if missing:
        raise BuildError(f"{' and '.join(missing)} are missing: install binutils")
    cli = _cli() if order.with_claude else None
    order.work.mkdir(parents=True, exist_ok=True)
    Stamp.of(ROOT).write(order.work / "stamp")
    make_lean(installed("mcp"), order.work / "lean")
    if cli is not None:
        write_payload(cli, order.work / ENTRY)
    _remove(order.product)
    if subprocess.run(order.command(), cwd=ROOT, check=False).returncode:
        raise BuildError("PyInstaller has failed; the reason is above")
    write_checksums(order)
    if order.onedir:
        write_archive(order)
    title = _version(order.executable)
    parts = parts_of_archive(order.executable, sys.stdlib_module_names)
    if order.onedir:
        parts += parts_of_folder(order.product / "_internal")
    (order.output / f"{NAME}.contents.txt").write_text(listing(title, parts), encoding="utf-8")
    return order.executable


def _tools() -> tuple[str, ...]:
    """What PyInstaller starts, and how it ends without is hard to understand."""
    return ("objcopy", "objdump", "strip") if sys.platform == "linux" else ()


def installed(package: str) -> Path:
    """The folder of *package* in this environment.

    Raises:
        BuildError: It is not there.
    """
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise BuildError(f"{package} is missing: type `uv sync --group build`, or `make binary`")
    return Path(found.submodule_search_locations[0])


def _cli() -> Cli:
    try:
        return bundled_cli(installed("claude_agent_sdk"))
    except FileNotFoundError as exc:
        raise BuildError(
            f"claude-agent-sdk comes without Claude Code here: {exc.filename} is missing; "
            "build without --with-claude"
        ) from exc


def _remove(product: Path) -> None:
    if product.is_dir():
        shutil.rmtree(product)
    else:
        product.unlink(missing_ok=True)


def _version(executable: Path) -> str:
    """What the built program says of itself; that it says anything is the first test of it."""
    said = subprocess.run([executable, "--version"], capture_output=True, text=True, check=False)
    if said.returncode:
        raise BuildError(f"{executable} does not start: {said.stderr or said.stdout}")
    return said.stdout.strip()


def write_checksums(order: Build) -> None:
    """Of every file that is shipped, with names from where the list is."""
    files = sorted(order.product.rglob("*")) if order.onedir else [order.executable]
    _write_digests(
        order.output / f"{NAME}.sha256",
        [path for path in files if path.is_file() and not path.is_symlink()],
    )


def _write_digests(checksums: Path, files: list[Path]) -> None:
    """In the format of `sha256sum --check`."""
    lines = []
    for path in files:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        lines.append(f"{digest}  {path.relative_to(checksums.parent).as_posix()}\n")
    checksums.write_text("".join(lines), encoding="utf-8", newline="\n")


def write_archive(order: Build) -> None:
    """Pack the folder as install.sh, install.ps1 and `update` take it, and write its checksum."""
    archive = order.output / f"{NAME}.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=6) as tar:
        tar.add(order.product, NAME, filter=_nobody)
    _write_digests(archive.with_name(f"{archive.name}.sha256"), [archive])


def _nobody(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Who has built it is no matter of who unpacks it."""
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


def main(argv: Sequence[str] | None = None) -> int:
    """Build, and say what was built."""
    order = parse(argv)
    began = time.monotonic()
    try:
        executable = build(order)
    except BuildError as exc:
        sys.stderr.write(f"build_local: {exc}\n")
        return 1
    size = sum(path.stat().st_size for path in _files(order.product))
    print(f"{executable}: {size / 1e6:.1f} MB, built in {time.monotonic() - began:.0f} s")
    return 0


def _files(product: Path) -> list[Path]:
    if product.is_file():
        return [product]
    return [path for path in product.rglob("*") if path.is_file() and not path.is_symlink()]


if __name__ == "__main__":
    raise SystemExit(main())
