"""The image that others are built from, made on this machine: no registry is reached by the tests.

It is as near to ``debian:bookworm-slim`` as ``debootstrap`` can make it, from where this machine's
own packages come, and has the packages that ``docker/Dockerfile`` would install.
"""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from tests.fakes.built_program import only_one
from tests.fakes.docker_engine import DockerEngine
from tests.fakes.docker_place import CACHE, ROOT, EngineError, unmount

NAME: Final = "debian:bookworm-slim"
"""What the image is called in an engine of the tests' own; elsewhere the name may be taken."""

_DOCKERFILE: Final = ROOT / "docker" / "Dockerfile"
_PACKAGES: Final = re.compile(r'^ARG PACKAGES="(.*)"$', re.MULTILINE)

_LEFT_OUT: Final = (
    *("./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*", "./usr/share/info/*"),
    *("./var/cache/apt/*", "./var/lib/apt/lists/*", "./var/log/*", "./var/cache/debconf/*"),
    *("./etc/resolv.conf", "./etc/hostname", "./dev/*", "./proc/*", "./sys/*"),
)
"""What slim images do without, and what is this machine's."""


def unavailable() -> str | None:
    """Why no base can be made here; None when one can."""
    if shutil.which("debootstrap") is None:
        return "debootstrap is missing: make test as root installs it"
    return None if _suite() else "only Debian makes a Debian here"


def base_image(engine: DockerEngine) -> str:
    """The name of the image in *engine*; made, in a minute or two, when it is not there."""
    name = f"wegent-test-base:{_key()}"
    if not engine.has_image(name):
        engine.docker("import", "--change", 'CMD ["bash"]', str(archive()), name)
    if engine.owned:
        engine.docker("tag", name, NAME)
    return name


def archive() -> Path:
    """All files of the image; made when they are not there."""
    CACHE.mkdir(parents=True, exist_ok=True)
    place = CACHE / f"base-{_key()}.tar"
    with only_one(place):
        if not place.exists():
            _bootstrap(place)
    return place


def _key() -> str:
    recipe = f"{_suite()} {_packages()} {_LEFT_OUT}"
    return hashlib.sha256(recipe.encode()).hexdigest()[:12]


def _packages() -> list[str]:
    found = _PACKAGES.search(_DOCKERFILE.read_text()) if _DOCKERFILE.exists() else None
    return found[1].split() if found else []


def _suite() -> str | None:
    release = platform.freedesktop_os_release()
    return release.get("VERSION_CODENAME") if release["ID"] == "debian" else None


def _mirror(suite: str) -> str:
    """Where this machine takes *suite* from."""
    said = subprocess.run(
        [
            *("apt-get", "indextargets", "--format", "$(REPO_URI)"),
            *("Created-By: Packages", f"Codename: {suite}", "Component: main"),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    addresses = said.stdout.split()
    if not addresses:
        raise EngineError(f"apt does not know where {suite} comes from")
    return addresses[0]


def _bootstrap(archive: Path) -> None:
    suite, packages = _suite(), _packages()
    assert suite
    include = [f"--include={','.join(packages)}"] if packages else []
    with tempfile.TemporaryDirectory(prefix="base-", dir=CACHE) as place:
        root = Path(place) / "root"
        try:
            made = subprocess.run(
                ["debootstrap", "--variant=minbase", *include, suite, str(root), _mirror(suite)],
                capture_output=True,
                text=True,
                check=False,
            )
        finally:
            unmount(root)  # what it has mounted, when it was cut short
        if made.returncode:
            raise EngineError(f"debootstrap: {made.stdout[-2000:]}{made.stderr}")
        unfinished = Path(place) / "tar"
        left_out = [f"--exclude={pattern}" for pattern in _LEFT_OUT]
        subprocess.run(
            ["tar", "--numeric-owner", *left_out, "-cf", unfinished, "-C", root, "."], check=True
        )
        unfinished.replace(archive)
