"""What Docker is given to build the image: the right folder, readable by all, and no secrets."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from scripts.build_image import NAME, parse, prepare, source
from shared.version import __version__


def test_names_and_options_are_those_that_were_given(tmp_path: Path) -> None:
    image, _ = parse(["--image", "ours:1", "--base-image", "debian:13", "--", "--network", "host"])
    command = image.command(tmp_path)
    assert command[:2] == ["docker", "build"]
    assert command[command.index("--tag") + 1] == "ours:1"
    assert "--build-arg=BASE_IMAGE=debian:13" in command
    assert f"--build-arg=VERSION={__version__}" in command
    assert command[-3:] == ["--network", "host", str(tmp_path)]


def test_without_a_base_the_dockerfile_decides(tmp_path: Path) -> None:
    image, _ = parse(["--base-image", ""])  # as make says it
    command = image.command(tmp_path)
    assert command[command.index("--tag") + 1] == NAME
    assert not any("BASE_IMAGE" in argument for argument in command)


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_everybody_can_read_and_start_what_a_careful_user_has_built(tmp_path: Path) -> None:
    folder = tmp_path / "wegent-executor"
    (folder / "_internal").mkdir(parents=True)
    for name, mode in (("wegent-executor", 0o700), ("_internal/library", 0o600)):
        (folder / name).write_text(name)
        (folder / name).chmod(mode)
    (folder / "_internal").chmod(0o700)
    (folder / "_internal" / "link").symlink_to("library")
    claude = tmp_path / "claude-of-the-sdk"
    claude.write_text("the CLI")
    context = tmp_path / "context"
    (context / "of the build before").mkdir(parents=True)

    prepare(context, folder, claude)

    modes = {
        path.relative_to(context).as_posix(): path.stat().st_mode & 0o777
        for path in context.rglob("*")
        if not path.is_symlink() and path.name != "claude"
    }
    assert modes == {
        "healthcheck": 0o755,
        "wegent-executor": 0o755,
        "wegent-executor/wegent-executor": 0o755,
        "wegent-executor/_internal": 0o755,
        "wegent-executor/_internal/library": 0o644,
    }
    assert (context / "claude").read_text() == "the CLI"
    assert (context / "wegent-executor" / "_internal" / "link").is_symlink()


@pytest.mark.parametrize(
    ("origin", "label"),
    [
        ("https://git.example.com/team/executor.git", "https://git.example.com/team/executor.git"),
        ("https://me:secret@git.example.com:8443/x?key=1", "https://git.example.com:8443/x"),
        ("git@git.example.com:team/executor.git", ""),
        ("/home/me/executor", ""),
    ],
)
def test_the_source_is_told_without_logins_and_without_places_of_this_machine(
    tmp_path: Path, origin: str, label: str
) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    subprocess.run(["git", "-C", tmp_path, "remote", "add", "origin", origin], check=True)
    assert source(tmp_path) == label


def test_a_checkout_without_an_origin_has_no_source(tmp_path: Path) -> None:
    assert source(tmp_path) == ""
