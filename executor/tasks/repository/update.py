"""Bringing an existing checkout up to date without losing anybody's work."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from typing import Final

from executor.plain_files import read_plain
from executor.tasks.repository.checkout import Checkout, Remote, View
from executor.tasks.repository.git import GitFailed

ASKED_BRANCH_FILE: Final = "wegent-branch"
"""In the git directory: the branch that was last asked for and reached, so that a session's next
message, which names the same branch again, does not take the agent's own branch away."""


class BranchMissing(GitFailed):
    """The branch that was asked for is neither in the checkout nor at its origin."""


async def update(
    checkout: Checkout, remote: Remote, branch: str | None, timeout_s: float
) -> tuple[str, ...]:
    """Fetch, move to *branch* when it is newly asked for, and fast-forward; keep all work.

    Args:
        timeout_s: For fetching, and again for every step that writes files.

    Returns:
        What could not be done, in sentences; the checkout is usable all the same.

    Raises:
        BranchMissing: There is no *branch*.
        GitFailed: It is not a checkout that can be read.
    """
    warnings: list[str] = []
    async with checkout.opened() as view:
        try:
            await view.fetch(remote, timeout_s)
        except GitFailed as exc:
            warnings.append(f"the checkout could not be fetched and may be out of date: {exc}")
        current, _ = await view.head()
        asked = await asyncio.to_thread(_read_asked_branch, checkout.path)
        if branch is not None and branch != asked:
            stayed = await _switch(view, branch, current, timeout_s) if branch != current else []
            warnings += stayed
            if not stayed:
                await asyncio.to_thread(remember_branch, checkout.path, branch)
            current, _ = await view.head()
        if current is not None:
            warnings += await _fast_forward(view, current, timeout_s)
    return tuple(warnings)


async def _switch(view: View, branch: str, current: str | None, timeout_s: float) -> list[str]:
    local = await view.commit(f"refs/heads/{branch}")
    theirs = await view.commit(f"refs/remotes/origin/{branch}")
    if local is None and theirs is None:
        raise BranchMissing(f"there is no branch {branch}")
    stays = f"the checkout stays on {current or 'its commit'} instead of {branch}"
    if not await view.clean():
        return [f"{stays}: it has uncommitted changes"]
    start = f"refs/remotes/origin/{branch}"
    names = [branch] if local is not None else ["--no-track", "-b", branch, start]
    try:
        await view.git("checkout", "--quiet", *names, "--", timeout_s=timeout_s)
    except GitFailed as exc:
        return [f"{stays}: {exc}"]
    return []


async def _fast_forward(view: View, current: str, timeout_s: float) -> list[str]:
    theirs = f"refs/remotes/origin/{current}"
    counts = await view.line("rev-list", "--left-right", "--count", f"HEAD...{theirs}", "--")
    ahead, behind = (int(count) for count in counts.split()) if counts else (0, 0)
    if not behind:
        return []
    stays = f"the checkout is {behind} commits behind origin/{current} and was left as it is"
    if ahead:
        return [f"{stays}: it has {ahead} commits of its own"]
    if not await view.clean():
        return [f"{stays}: it has uncommitted changes"]
    try:
        await view.git("merge", "--quiet", "--ff-only", theirs, timeout_s=timeout_s)
    except GitFailed as exc:
        return [f"{stays}: {exc}"]
    return []


def remember_branch(path: Path, branch: str | None) -> None:
    """Note in the checkout at *path* that *branch* was asked for. Blocks."""
    descriptor, temporary = tempfile.mkstemp(dir=path / ".git", prefix=ASKED_BRANCH_FILE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(branch or "")
    Path(temporary).replace(path / ".git" / ASKED_BRANCH_FILE)


def _read_asked_branch(path: Path) -> str | None:
    return (read_plain(path / ".git" / ASKED_BRANCH_FILE, 1024) or b"").decode("utf-8", "replace")
