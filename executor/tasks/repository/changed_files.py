"""What a run has changed: in a checkout since a commit, or in a plain folder since a snapshot.

Looking changes nothing: not the index, the branch or a file of whoever works there.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from executor.plain_files import copy_plain, read_plain
from executor.session_places import OWN
from executor.tasks.repository.checkout import MAX_COPIED_BYTES, Checkout, View
from executor.tasks.repository.git import GitFailed

MAX_CHANGED_FILES: Final = 1000
"""How many changed files are reported; ``total`` counts all of them."""

MAX_SNAPSHOT_FILES: Final = 20_000
"""How many files of a folder without repository are looked at."""

_MAX_COUNTED_BYTES: Final = 4 * 1024 * 1024
_BINARY_PROBE_BYTES: Final = 8000  # how far git looks for a NUL
_DIFF_TIMEOUT_S: Final = 120.0
_EMPTY_TREES: Final = {
    "sha1": "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    "sha256": "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}
"""What git compares with before the first commit: ``git hash-object -t tree /dev/null``."""

_STATUS: Final = {"A": "added", "C": "added", "D": "deleted", "R": "renamed"}

Snapshot = Mapping[str, tuple[int, int]]
"""Modification time in nanoseconds and size, by path relative to the folder."""


@dataclass(frozen=True, slots=True)
class ChangedFiles:
    """Changed files, at most :data:`MAX_CHANGED_FILES` of them.

    Attributes:
        files: ``{path, status, added_lines, removed_lines}`` with status ``added``, ``modified``,
            ``deleted`` or ``renamed`` (then with ``old_path``); the numbers are ``None`` when they
            are unknown, as for binary files. Paths are relative, with bytes that are not UTF-8
            replaced.
        total: How many files have changed, as far as known.
    """

    files: list[dict[str, Any]]
    total: int


NOTHING_CHANGED: Final = ChangedFiles([], 0)


async def changed_since_commit(checkout: Checkout, base: str | None) -> ChangedFiles:
    """What differs from commit *base*: committed since, uncommitted and untracked alike.

    Args:
        base: ``None``: there was no commit yet. One that is gone is replaced by ``HEAD``.

    Raises:
        GitFailed: The checkout cannot be read.
    """
    async with checkout.opened() as view:
        # A copy, so that marking files as new and refreshing touch nobody's index.
        index = view.common / "index"
        await asyncio.to_thread(
            copy_plain, checkout.path / ".git" / "index", index, MAX_COPIED_BYTES
        )
        env = {"GIT_INDEX_FILE": str(index)}
        untracked = await _untracked(view, env)
        embedded = [name for name in untracked if name.endswith(b"/")]
        plain = [name for name in untracked if not name.endswith(b"/")]
        await _mark_as_new(view, plain[:MAX_CHANGED_FILES], env)
        diff = await view.git(
            "diff",
            "--raw",
            "--numstat",
            "-z",
            "--find-renames",
            "--no-ext-diff",
            "--no-textconv",
            "--no-color",
            "--no-relative",
            # Looking into a submodule would run git with that submodule's configuration.
            "--ignore-submodules=dirty",
            await _comparable(view, base),
            "--",
            timeout_s=_DIFF_TIMEOUT_S,
            env=env,
        )
    files = list(_parse_diff(diff))
    # Repositories inside this one, which git lists without looking into them.
    files += [_entry(name.rstrip(b"/"), "added", None, None) for name in embedded]
    files.sort(key=lambda file: str(file["path"]))
    total = len(files) + max(0, len(plain) - MAX_CHANGED_FILES)
    return ChangedFiles(files[:MAX_CHANGED_FILES], total)


async def _untracked(view: View, env: Mapping[str, str]) -> list[bytes]:
    listed = await view.git("ls-files", "-z", "--others", "--exclude-standard", env=env)
    # After the last NUL comes nothing, or a name that the output limit has cut.
    return listed.split(b"\0")[:-1]


async def _mark_as_new(view: View, names: list[bytes], env: Mapping[str, str]) -> None:
    if not names:
        return
    listing = view.common / "untracked"
    await asyncio.to_thread(listing.write_bytes, b"\0".join(names) + b"\0")
    with suppress(GitFailed):  # a file has vanished meanwhile
        await view.git(
            "add",
            "--intent-to-add",
            "--ignore-errors",
            f"--pathspec-from-file={listing}",
            "--pathspec-file-nul",
            options=("--literal-pathspecs",),
            env=env,
        )


async def _comparable(view: View, base: str | None) -> str:
    # Without a base everything is new; a base that the agent has rewritten away is gone.
    commit = await view.commit(base) or await view.commit("HEAD") if base is not None else None
    if commit is not None:
        return commit
    form = await view.line("rev-parse", "--show-object-format")
    return _EMPTY_TREES[form or "sha1"]


def _parse_diff(diff: bytes) -> Iterator[dict[str, Any]]:
    """Read ``--raw --numstat -z``: first all raw records, then all counts."""
    fields = iter(diff.split(b"\0")[:-1])
    status: dict[bytes, str] = {}
    for head in fields:
        if head.startswith(b":"):
            letter = head.rpartition(b" ")[2][:1].decode("ascii", "replace")
            path = next(fields, b"")
            if letter in "RC":
                path = next(fields, b"")
            status[path] = _STATUS.get(letter, "modified")
            continue
        added, _, rest = head.partition(b"\t")
        removed, _, path = rest.partition(b"\t")
        old = None
        if not path:
            old, path = next(fields, b""), next(fields, b"")
        state = status.get(path, "modified")
        entry = _entry(path, state, _count(added), _count(removed))
        if old is not None and state == "renamed":
            entry["old_path"] = _text(old)
        yield entry


def _count(digits: bytes) -> int | None:
    return int(digits) if digits.isdigit() else None  # "-" for binary files


def _entry(path: bytes, status: str, added: int | None, removed: int | None) -> dict[str, Any]:
    return {
        "path": _text(path),
        "status": status,
        "added_lines": added,
        "removed_lines": removed,
    }


def _text(path: bytes) -> str:
    return path.decode("utf-8", "replace")


def take_snapshot(folder: Path) -> Snapshot:
    """What lies in *folder*, at most so many files. Blocks.

    Without what belongs to git anywhere, and to the executor at the top.
    """
    found: dict[str, tuple[int, int]] = {}
    for parent, folders, names in os.walk(folder):
        hidden = {".git", *OWN} if Path(parent) == folder else {".git"}
        folders[:] = sorted(name for name in folders if name not in hidden)
        for name in sorted(names):
            path = Path(parent, name)
            try:
                status = path.lstat()
            except OSError:
                continue
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISLNK(status.st_mode):
                continue
            found[str(path.relative_to(folder))] = (status.st_mtime_ns, status.st_size)
            if len(found) >= MAX_SNAPSHOT_FILES:
                return found
    return found


def changed_since_snapshot(folder: Path, before: Snapshot) -> ChangedFiles:
    """What differs in *folder* from the snapshot *before*. Blocks."""
    after = take_snapshot(folder)
    changed = sorted(path for path in {*before, *after} if before.get(path) != after.get(path))
    files = []
    for path in changed[:MAX_CHANGED_FILES]:
        if path not in before:
            entry = _entry(os.fsencode(path), "added", _lines(folder / path), 0)
        else:
            status = "modified" if path in after else "deleted"
            entry = _entry(os.fsencode(path), status, None, None)
        files.append(entry)
    return ChangedFiles(files, len(changed))


def _lines(path: Path) -> int | None:
    """The number of lines of a text file; ``None`` for anything else."""
    try:
        content = read_plain(path, _MAX_COUNTED_BYTES + 1)
    except OSError:
        return None
    if content is None or len(content) > _MAX_COUNTED_BYTES:
        return None
    if b"\0" in content[:_BINARY_PROBE_BYTES]:
        return None
    return content.count(b"\n") + (not content.endswith(b"\n") and content != b"")
