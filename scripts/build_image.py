#!/usr/bin/env python3
"""Build the executor's image: docker mode, Claude Code and git, for `docker run`; or `make image`.

What `docker build` gets is a folder made for it: the program as a folder, the Claude Code CLI that
comes with the SDK, and what docker/ has. What follows `--` is passed on to `docker build`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

if not __package__:  # started as a file: the repository's root belongs on the path, not this folder
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from scripts import build_local
from scripts.binary.payload import bundled_cli
from scripts.binary.stamp import Stamp
from shared.version import __version__

ROOT = Path(__file__).resolve().parents[1]
DOCKER = ROOT / "docker"
NAME = "wegent-executor:latest"


@dataclass(frozen=True, slots=True)
class Image:
    """One image to be built.

    Attributes:
        base: What it is built from; None: what the Dockerfile says.
        options: More arguments for ``docker build``.
    """

    name: str
    base: str | None
    options: tuple[str, ...]

    def command(self, context: Path) -> list[str]:
        """How Docker is started; builders of all versions understand it."""
        values = {"VERSION": __version__, "REVISION": Stamp.of(ROOT).commit, "SOURCE": source(ROOT)}
        if self.base:
            values["BASE_IMAGE"] = self.base
        arguments = [f"--build-arg={name}={value}" for name, value in values.items()]
        dockerfile = ("--file", str(DOCKER / "Dockerfile"))
        return [
            *("docker", "build", *dockerfile, "--tag", self.name),
            *(*arguments, *self.options, str(context)),
        ]


def parse(argv: Sequence[str] | None = None) -> tuple[Image, Path]:
    """The image that the arguments ask for, and the folder to work in."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--image", default=NAME, help=f"its name (default: {NAME})")
    parser.add_argument("--base-image", help="what it is built from (default: a slim Debian)")
    parser.add_argument(
        "--work", type=Path, default=ROOT / "build" / "image", help="folder for what is in between"
    )
    parser.add_argument("options", nargs="*", help="after --: more arguments for docker build")
    given = parser.parse_args(argv)
    image = Image(given.image, given.base_image or None, tuple(given.options))
    return image, given.work.resolve()


def prepare(context: Path, folder: Path, claude: Path) -> None:
    """Make the folder that Docker gets, anew.

    Args:
        folder: The program, as `build_local.py --onedir` makes it.
        claude: The Claude Code CLI.
    """
    shutil.rmtree(context, ignore_errors=True)
    shutil.copytree(folder, context / build_local.NAME, symlinks=True)
    shutil.copyfile(DOCKER / "healthcheck", context / "healthcheck")
    try:
        os.link(claude, context / "claude")  # 380 MB
    except OSError:
        shutil.copyfile(claude, context / "claude")
    # What the image's user may read depends on no umask of whoever builds it.
    for path in context.rglob("*"):
        if not path.is_symlink() and path.name != "claude":
            runs = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if runs or path.name == "healthcheck" else 0o644)


def build(image: Image, context: Path) -> None:
    """Build *image* from the folder that :func:`prepare` has made.

    Raises:
        BuildError: Docker has failed.
    """
    if subprocess.run(image.command(context), check=False).returncode:
        raise build_local.BuildError("docker build has failed; the reason is above")


def source(root: Path) -> str:
    """Where the sources of the checkout *root* are published; empty when that is not on the web.

    An address can carry a login, which is nothing to be written into images.
    """
    said = subprocess.run(
        ["git", "-C", str(root), "remote", "get-url", "origin"],
        capture_output=True,
        text=True,
        check=False,
    )
    address = urlsplit(said.stdout.strip())
    if address.scheme not in {"http", "https"} or not address.hostname:
        return ""
    port = f":{address.port}" if address.port else ""
    return f"{address.scheme}://{address.hostname}{port}{address.path}"


def main(argv: Sequence[str] | None = None) -> int:
    """Build the program and the image, and say what was built."""
    image, work = parse(argv)
    context = work / "context"
    if shutil.which("docker") is None:
        sys.stderr.write("build_image: docker is missing: install Docker\n")
        return 1
    try:
        program = build_local.build(
            build_local.Build(onedir=True, with_claude=False, output=work, work=work / "binary")
        )
        prepare(context, program.parent, claude())
        build(image, context)
    except build_local.BuildError as exc:
        sys.stderr.write(f"build_image: {exc}\n")
        return 1
    print(f"{image.name} is built; docs/image.md says how to run it")
    return 0


def claude() -> Path:
    """The CLI that comes with the installed SDK.

    Raises:
        BuildError: There is none.
    """
    try:
        return bundled_cli(build_local.installed("claude_agent_sdk")).path
    except FileNotFoundError as exc:
        raise build_local.BuildError(f"the SDK has come without the CLI {exc}") from exc


if __name__ == "__main__":
    raise SystemExit(main())
