"""What is inside a built program: every part with its sizes and what it is for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.binary.ingredients import purpose

MODULES: Final = "PYZ.pyz"
"""The entry that holds all Python modules; it is read where it is, never unpacked."""

_STANDARD: Final = "the standard library"


@dataclass(frozen=True, slots=True)
class Part:
    """A file or a Python package within the program.

    Attributes:
        packed: Bytes that it takes in the program.
        unpacked: Bytes that each start writes to the disk; 0 for what is read where it is.
    """

    name: str
    packed: int
    unpacked: int
    purpose: str


def parts_of_archive(executable: Path, standard: Iterable[str]) -> list[Part]:
    """The parts in *executable*'s archive, the largest first.

    Args:
        standard: Names of the standard library's modules, which are counted together.
    """
    from PyInstaller.archive.readers import CArchiveReader

    archive = CArchiveReader(str(executable))
    parts = []
    for name, (_, packed, unpacked, _, kind) in archive.toc.items():
        name = name.replace("\\", "/")
        if name == MODULES:
            modules = archive.open_embedded_archive(name).toc
            sizes = {module: size for module, (_, _, size) in modules.items()}
            parts += _packages(sizes, frozenset(standard))
        else:
            parts.append(Part(name, packed, unpacked if kind in "bxZ" else 0, purpose(name)))
    return _largest_first(parts)


def parts_of_folder(folder: Path) -> list[Part]:
    """The files in *folder*, the largest first."""
    return _largest_first(
        Part(path.relative_to(folder).as_posix(), size, 0, purpose(path.name))
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and (size := path.stat().st_size)
    )


def _packages(modules: dict[str, int], standard: frozenset[str]) -> list[Part]:
    sizes: Counter[str] = Counter()
    for module, size in modules.items():
        package = module.partition(".")[0]
        sizes[_STANDARD if package in standard else package] += size
    return [Part(f"{name} (Python)", size, 0, purpose(name)) for name, size in sizes.items()]


def _largest_first(parts: Iterable[Part]) -> list[Part]:
    return sorted(parts, key=lambda part: (-part.packed, part.name))


def listing(title: str, parts: list[Part]) -> str:
    """*parts* as a text for people."""
    packed, unpacked = sum(p.packed for p in parts), sum(p.unpacked for p in parts)
    lines = [title, "", f"{'bytes':>12} {'unpacked':>12}  part"]
    for part in [*parts, Part("all", packed, unpacked, "")]:
        what = f"{part.name}: {part.purpose}" if part.purpose else part.name
        lines.append(f"{part.packed:>12,} {part.unpacked:>12,}  {what}")
    return "\n".join(lines) + "\n"
