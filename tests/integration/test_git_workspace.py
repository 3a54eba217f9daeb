"""Workspaces with real git on real repositories."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from executor.tasks.workspace import Workspaces
from shared.errors import Refusal, RunError
from shared.protocol.execution import ExecutionRequest, read_execution_request
from shared.status import ErrorCode
from tests.fakes.git_server import git, make_repository

FILES = {"calc.py": "def add(a, b):\n    return a - b\n", "docs/note.txt": "one\ntwo\nthree\n"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make_repository(tmp_path / "source" / "calc", FILES)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


@pytest.fixture
def workspaces(tmp_path: Path, root: Path) -> Workspaces:
    return make_workspaces(tmp_path, root)


def make_workspaces(tmp_path: Path, root: Path, **changes: Any) -> Workspaces:
    arguments: dict[str, Any] = {
        "private_dir": tmp_path / "private",
        "clone_timeout_s": 30,
        "allow_local_repositories": True,
        "environ": dict(os.environ),
        "backend_url": None,
    }
    return Workspaces(root, **{**arguments, **changes})


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def request(**fields: Any) -> ExecutionRequest:
    return read_execution_request({"task_id": 7, "subtask_id": 1, "prompt": "go", **fields})


def of(repository: Path, **fields: Any) -> ExecutionRequest:
    return request(git_url=repository.as_uri(), **fields)


def commit(repository: Path, name: str, text: str) -> str:
    (repository / name).write_text(text)
    git(repository, "add", name)
    git(repository, "commit", "--quiet", "-m", f"Change {name}")
    return git(repository, "rev-parse", "HEAD")


async def test_a_repository_is_cloned_into_a_private_folder_of_its_name(
    workspaces: Workspaces, source: Path, root: Path
) -> None:
    workspace = await workspaces.prepare(of(source))

    assert workspace.cwd == workspace.checkout == root / "7" / "calc"
    assert (workspace.cwd / "calc.py").read_text() == FILES["calc.py"]
    assert workspace.branch == "main"
    assert workspace.commit == git(source, "rev-parse", "HEAD")
    assert workspace.repository == source.as_uri()
    assert workspace.warnings == ()
    assert stat.S_IMODE((root / "7").stat().st_mode) == 0o700
    assert names_in(root / "7") == ["calc", "output"]


async def test_without_a_repository_the_agent_works_in_the_sessions_directory(
    workspaces: Workspaces, root: Path
) -> None:
    workspace = await workspaces.prepare(request())

    assert workspace.cwd == workspace.session_dir == root / "7"
    assert workspace.checkout is None


async def test_the_branch_that_is_asked_for_is_checked_out(
    workspaces: Workspaces, source: Path
) -> None:
    git(source, "checkout", "--quiet", "-b", "fix/sum")
    tip = commit(source, "new.py", "x = 1\n")
    git(source, "checkout", "--quiet", "main")

    workspace = await workspaces.prepare(of(source, branch_name="fix/sum"))

    assert (workspace.branch, workspace.commit) == ("fix/sum", tip)


async def test_a_missing_branch_is_named_and_leaves_nothing(
    workspaces: Workspaces, source: Path, root: Path
) -> None:
    with pytest.raises(RunError, match="no branch 'nowhere'") as raised:
        await workspaces.prepare(of(source, branch_name="nowhere"))

    assert raised.value.error_code is ErrorCode.CLONE_FAILED
    assert names_in(root / "7") == []


async def test_a_repository_that_is_not_there_fails_with_gits_reason(
    workspaces: Workspaces, tmp_path: Path, root: Path
) -> None:
    with pytest.raises(RunError) as raised:
        await workspaces.prepare(of(tmp_path / "nothing"))

    assert raised.value.error_code is ErrorCode.CLONE_FAILED
    assert "does not" in str(raised.value)
    assert names_in(root / "7") == []


async def test_local_repositories_are_refused_unless_allowed(tmp_path: Path, source: Path) -> None:
    workspaces = make_workspaces(tmp_path, tmp_path / "w", allow_local_repositories=False)

    with pytest.raises(Refusal, match="git_url") as raised:
        workspaces.check(of(source))

    assert raised.value.error_code is ErrorCode.INVALID_REQUEST
    with pytest.raises(RunError, match="not allowed"):  # git itself would not either
        await workspaces.prepare(of(source))


async def test_a_machine_without_git_is_told_so(tmp_path: Path, source: Path) -> None:
    workspaces = make_workspaces(tmp_path, tmp_path / "w", environ={"PATH": str(tmp_path)})

    with pytest.raises(RunError, match="install git") as raised:
        await workspaces.prepare(of(source))

    assert raised.value.error_code is ErrorCode.CLONE_FAILED


async def test_what_a_dying_git_leaves_of_a_clone_is_removed(
    tmp_path: Path, root: Path, source: Path
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    script = '#!/bin/sh\nfor last; do :; done\nmkdir -p "$last/.git" || exit 2\nkill -9 $$\n'
    (programs / "git").write_text(script)
    (programs / "git").chmod(0o755)
    environ = {"PATH": f"{programs}:{os.environ['PATH']}"}

    with pytest.raises(RunError, match="without a word"):
        await make_workspaces(tmp_path, root, environ=environ).prepare(of(source))

    assert names_in(root / "7") == []


async def test_an_empty_repository_can_be_worked_in(workspaces: Workspaces, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "--quiet", "--bare", "--initial-branch=main")

    workspace = await workspaces.prepare(of(empty))
    (workspace.cwd / "first.txt").write_text("a\n")
    git(workspace.cwd, "add", ".")
    git(workspace.cwd, "commit", "--quiet", "-m", "First")

    assert (workspace.branch, workspace.commit) == ("main", None)
    assert [(f["path"], f["status"]) for f in (await workspaces.describe(workspace))["files"]] == [
        ("first.txt", "added")
    ]


async def test_commits_in_a_new_clone_name_the_requests_user_and_the_global_file_is_untouched(
    tmp_path: Path, root: Path, source: Path
) -> None:
    global_config = tmp_path / "gitconfig"
    global_config.write_text("[user]\n\tname = Owner\n\temail = owner@example.org\n")
    before = global_config.read_bytes()
    workspaces = make_workspaces(
        tmp_path, root, environ={**os.environ, "GIT_CONFIG_GLOBAL": str(global_config)}
    )
    user = {"user_name": "--Grace\n[core]", "git_login": "grace", "git_email": "g@example.org"}

    workspace = await workspaces.prepare(of(source, user=user))

    config = workspace.cwd / ".git" / "config"
    assert git(workspace.cwd, "config", "--file", str(config), "user.name") == "--Grace[core]"
    assert git(workspace.cwd, "config", "--file", str(config), "user.email") == "g@example.org"
    assert global_config.read_bytes() == before


# An existing checkout


async def test_an_existing_checkout_is_fetched_and_moved_forward(
    workspaces: Workspaces, source: Path
) -> None:
    first = await workspaces.prepare(of(source))
    tip = commit(source, "calc.py", "def add(a, b):\n    return a + b\n")

    second = await workspaces.prepare(of(source), first.cwd)

    assert second.cwd == first.cwd
    assert second.commit == tip
    assert second.warnings == ()
    assert git(second.cwd, "status", "--porcelain") == ""


async def test_uncommitted_work_is_kept_and_the_user_is_told(
    workspaces: Workspaces, source: Path
) -> None:
    first = await workspaces.prepare(of(source))
    (first.cwd / "calc.py").write_text("mine\n")
    commit(source, "calc.py", "theirs\n")

    second = await workspaces.prepare(of(source), first.cwd)

    assert (second.cwd / "calc.py").read_text() == "mine\n"
    assert second.commit == first.commit
    assert "uncommitted changes" in second.warnings[0]
    assert "origin/main" in git(second.cwd, "branch", "-r", "--contains", "HEAD")


async def test_a_checkout_with_commits_of_its_own_is_left_as_it_is(
    workspaces: Workspaces, source: Path
) -> None:
    first = await workspaces.prepare(of(source))
    mine = commit(first.cwd, "mine.txt", "mine\n")
    commit(source, "theirs.txt", "theirs\n")

    second = await workspaces.prepare(of(source), first.cwd)

    assert second.commit == mine
    assert "1 commits of its own" in second.warnings[0]


async def test_the_agents_own_branch_stays_when_the_same_branch_is_asked_for_again(
    workspaces: Workspaces, source: Path
) -> None:
    first = await workspaces.prepare(of(source, branch_name="main"))
    git(first.cwd, "checkout", "--quiet", "-b", "agent/fix")

    second = await workspaces.prepare(of(source, branch_name="main"), first.cwd)

    assert second.branch == "agent/fix"


async def test_a_branch_that_the_agent_was_on_when_it_was_asked_for_counts_as_reached(
    workspaces: Workspaces, source: Path
) -> None:
    first = await workspaces.prepare(of(source, branch_name="main"))
    git(source, "branch", "other")
    git(first.cwd, "fetch", "--quiet")
    git(first.cwd, "checkout", "--quiet", "other")
    await workspaces.prepare(of(source, branch_name="other"), first.cwd)
    git(first.cwd, "checkout", "--quiet", "-b", "agent/fix")

    again = await workspaces.prepare(of(source, branch_name="other"), first.cwd)

    assert again.branch == "agent/fix"


async def test_a_newly_asked_branch_is_switched_to_when_nothing_is_lost(
    workspaces: Workspaces, source: Path
) -> None:
    first = await workspaces.prepare(of(source, branch_name="main"))
    git(source, "checkout", "--quiet", "-b", "other")
    tip = commit(source, "other.txt", "other\n")

    second = await workspaces.prepare(of(source, branch_name="other"), first.cwd)

    assert (second.branch, second.commit) == ("other", tip)
    assert (second.cwd / "other.txt").exists()
    assert git(second.cwd, "status", "--porcelain") == ""


async def test_a_newly_asked_branch_waits_for_uncommitted_work(
    workspaces: Workspaces, source: Path
) -> None:
    first = await workspaces.prepare(of(source))
    git(source, "branch", "other")
    (first.cwd / "calc.py").write_text("mine\n")

    second = await workspaces.prepare(of(source, branch_name="other"), first.cwd)
    git(first.cwd, "checkout", "--quiet", "--", ".")
    third = await workspaces.prepare(of(source, branch_name="other"), first.cwd)

    assert second.branch == "main"
    assert "stays on main instead of other" in second.warnings[0]
    assert (third.branch, third.warnings) == ("other", ())


async def test_a_newly_asked_branch_that_is_missing_fails_the_run(
    workspaces: Workspaces, source: Path
) -> None:
    first = await workspaces.prepare(of(source))

    with pytest.raises(RunError, match="no branch 'nowhere'"):
        await workspaces.prepare(of(source, branch_name="nowhere"), first.cwd)


async def test_a_fetch_that_fails_is_a_warning(workspaces: Workspaces, source: Path) -> None:
    first = await workspaces.prepare(of(source))
    source.rename(source.with_name("away"))

    second = await workspaces.prepare(of(source), first.cwd)

    assert second.commit == first.commit
    assert "could not be fetched" in second.warnings[0]


@pytest.mark.parametrize(("command", "branch"), [("merge", None), ("checkout", "other")])
async def test_writing_many_files_may_take_as_long_as_a_clone(
    workspaces: Workspaces, source: Path, tmp_path: Path, command: str, branch: str | None
) -> None:
    first = await workspaces.prepare(of(source))
    commit(source, "new.txt", "new\n")
    git(source, "branch", "other")
    git(first.cwd, "fetch", "--quiet")
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "git").write_text(
        f'#!/bin/sh\ncase " $* " in *" {command} "*) exec sleep 600;; esac\n'
        f'exec {shutil.which("git")} "$@"\n'
    )
    (programs / "git").chmod(0o755)
    environ = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}
    hurried = make_workspaces(
        tmp_path, first.session_dir.parent, environ=environ, clone_timeout_s=1
    )

    async with asyncio.timeout(30):
        second = await hurried.prepare(of(source, branch_name=branch), first.cwd)

    assert f"git {command} took longer than 1 s" in "".join(second.warnings)


async def test_another_repository_of_the_same_name_gets_a_folder_of_its_own(
    workspaces: Workspaces, source: Path, tmp_path: Path
) -> None:
    other = make_repository(tmp_path / "elsewhere" / "calc", {"other.txt": "x\n"})
    first = await workspaces.prepare(of(source))

    second = await workspaces.prepare(of(other))
    third = await workspaces.prepare(of(other))

    assert second.checkout != first.checkout
    assert second.checkout is not None
    assert second.checkout.name.startswith("calc-")
    assert (second.checkout / "other.txt").exists()
    assert third.checkout == second.checkout


async def test_a_repository_called_attachments_does_not_take_their_folder(
    workspaces: Workspaces, tmp_path: Path
) -> None:
    source = make_repository(tmp_path / "Attachments", {"a": "a\n"})

    workspace = await workspaces.prepare(
        of(source, attachments=[{"filename": "a.txt", "content_base64": "YQ=="}])
    )

    assert workspace.cwd.name.startswith("Attachments-")
    assert workspace.staged.attachments == (workspace.session_dir / "attachments" / "a.txt",)


async def test_the_remains_of_an_interrupted_clone_are_removed(
    workspaces: Workspaces, source: Path, root: Path
) -> None:
    (root / "7" / ".calc.0123.clone" / "objects").mkdir(parents=True)
    (root / "7" / ".0123.staging" / "skills").mkdir(parents=True)

    await workspaces.prepare(of(source))

    assert names_in(root / "7") == ["calc", "output"]


async def test_a_session_directory_that_is_a_link_is_refused(
    workspaces: Workspaces, root: Path, tmp_path: Path
) -> None:
    root.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (root / "7").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(RunError, match="is a link") as raised:
        await workspaces.prepare(request())

    assert raised.value.error_code is ErrorCode.WORKSPACE_ERROR


async def test_a_link_in_the_checkouts_place_is_not_followed(
    workspaces: Workspaces, source: Path, root: Path, tmp_path: Path
) -> None:
    elsewhere = make_repository(tmp_path / "elsewhere", {"x": "x\n"})
    git(elsewhere, "remote", "add", "origin", source.as_uri())
    (root / "7").mkdir(parents=True)
    (root / "7" / "calc").symlink_to(elsewhere)

    workspace = await workspaces.prepare(of(source))

    assert workspace.cwd.name.startswith("calc-")
    assert names_in(elsewhere) == [".git", "x"]


async def test_a_workspace_root_that_cannot_be_made_is_a_workspace_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    workspaces = make_workspaces(tmp_path, tmp_path / "file" / "root")

    with pytest.raises(RunError, match="cannot be prepared") as raised:
        await workspaces.prepare(request())

    assert raised.value.error_code is ErrorCode.WORKSPACE_ERROR


async def test_a_session_without_a_repository_in_its_message_keeps_its_checkout(
    workspaces: Workspaces, source: Path
) -> None:
    first = await workspaces.prepare(of(source))

    second = await workspaces.prepare(request(), first.cwd)

    assert second.checkout == first.cwd
    assert second.repository == source.as_uri()


async def test_a_working_directory_that_is_gone_is_replaced_with_a_warning(
    workspaces: Workspaces, root: Path
) -> None:
    workspace = await workspaces.prepare(request(), root / "7" / "gone")

    assert workspace.cwd == root / "7"
    assert "gone" in workspace.warnings[0]


# What has changed


async def test_committed_uncommitted_untracked_renamed_and_binary_changes_are_reported(
    workspaces: Workspaces, source: Path
) -> None:
    commit(source, "gone.txt", "1\n2\n")
    commit(source, ".gitignore", "*.log\n")
    workspace = await workspaces.prepare(of(source))
    commit(workspace.cwd, "committed.txt", "a\nb\n")
    (workspace.cwd / "calc.py").write_text("def add(a, b):\n    return a + b\n")
    (workspace.cwd / "gone.txt").unlink()
    (workspace.cwd / "docs" / "note.txt").rename(workspace.cwd / "note.txt")
    (workspace.cwd / "new.bin").write_bytes(b"\0\1\2")
    (workspace.cwd / "noise.log").write_text("x\n")
    Path(os.fsdecode(os.fsencode(workspace.cwd) + b"/caf\xe9.txt")).write_text("x\n")
    status = git(workspace.cwd, "status", "--porcelain")
    index = (workspace.cwd / ".git" / "index").read_bytes()

    description = await workspaces.describe(workspace)

    counts = {
        f["path"]: (f["status"], f["added_lines"], f["removed_lines"]) for f in description["files"]
    }
    assert counts == {
        "committed.txt": ("added", 2, 0),
        "calc.py": ("modified", 1, 1),
        "gone.txt": ("deleted", 0, 2),
        "note.txt": ("renamed", 0, 0),
        "new.bin": ("added", None, None),
        "caf\ufffd.txt": ("added", 1, 0),
    }
    assert description["branch"] == "main"
    assert description["commit"] == git(workspace.cwd, "rev-parse", "HEAD")
    assert "truncated" not in description
    assert (workspace.cwd / ".git" / "index").read_bytes() == index
    assert git(workspace.cwd, "status", "--porcelain") == status


async def test_an_untouched_checkout_reports_nothing(workspaces: Workspaces, source: Path) -> None:
    workspace = await workspaces.prepare(of(source))

    assert (await workspaces.describe(workspace))["files"] == []


async def test_very_many_changes_are_cut_and_counted(workspaces: Workspaces, source: Path) -> None:
    workspace = await workspaces.prepare(of(source))
    for number in range(1003):
        (workspace.cwd / f"{number:04}.txt").write_text("x\n")

    description = await workspaces.describe(workspace)

    assert len(description["files"]) == 1000
    assert (description["truncated"], description["full_length"]) == (True, 1003)


async def test_changes_without_a_repository_are_told_by_a_snapshot(workspaces: Workspaces) -> None:
    first = await workspaces.prepare(request())
    (first.cwd / "kept.txt").write_text("same\n")
    (first.cwd / "old.txt").write_text("old\n")
    (first.cwd / "gone.txt").write_text("x\n")
    workspace = await workspaces.prepare(request(), first.cwd)
    (workspace.cwd / "old.txt").write_text("older than old\n")
    (workspace.cwd / "gone.txt").unlink()
    (workspace.cwd / "new").mkdir()
    (workspace.cwd / "new" / "a.txt").write_text("1\n2")

    files = (await workspaces.describe(workspace))["files"]

    assert [(f["path"], f["status"], f["added_lines"]) for f in files] == [
        ("gone.txt", "deleted", None),
        ("new/a.txt", "added", 2),
        ("old.txt", "modified", None),
    ]


async def test_a_checkout_that_the_agent_has_removed_reports_nothing_and_fails_nothing(
    workspaces: Workspaces, source: Path
) -> None:
    workspace = await workspaces.prepare(of(source))
    shutil.rmtree(workspace.cwd)

    description = await workspaces.describe(workspace)

    assert description["files"] == []
    assert description["commit"] == workspace.commit


# What an agent may leave in the checkout


PROGRAMS = (
    "core.fsmonitor",
    "core.sshCommand",
    "core.pager",
    "core.alternateRefsCommand",
    "core.askPass",
    "credential.helper",
    "diff.external",
    "diff.evil.command",
    "diff.evil.textconv",
    "filter.evil.clean",
    "filter.evil.smudge",
    "filter.evil.process",
)


def set_traps(repository: Path, trap: Path) -> None:
    trap.mkdir(exist_ok=True)
    config = repository / ".git" / "config"
    for name in PROGRAMS:
        git(trap, "config", "--file", str(config), name, f"touch {trap}/{name} #")
    hooks = repository / ".git" / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("post-checkout", "post-merge", "reference-transaction", "post-index-change"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {trap}/hook-{name}\n")
        (hooks / name).chmod(0o755)


async def test_programs_that_a_checkout_configures_are_not_run_for_the_changes(
    workspaces: Workspaces, source: Path, tmp_path: Path
) -> None:
    workspace = await workspaces.prepare(of(source))
    make_repository(workspace.cwd / "nested", {"x": "x\n"})
    (workspace.cwd / "calc.py").write_text("changed\n")
    (workspace.cwd / ".gitattributes").write_text("* filter=evil diff=evil merge=evil\n")
    set_traps(workspace.cwd, tmp_path / "trap")
    set_traps(workspace.cwd / "nested", tmp_path / "trap")

    description = await workspaces.describe(workspace)

    assert {f["path"] for f in description["files"]} == {"calc.py", ".gitattributes", "nested"}
    assert names_in(tmp_path / "trap") == []


async def test_programs_that_a_submodule_configures_are_not_run_for_the_changes(
    workspaces: Workspaces, source: Path, tmp_path: Path
) -> None:
    workspace = await workspaces.prepare(of(source))
    nested = make_repository(workspace.cwd / "nested", {"x": "x\n"})
    git(workspace.cwd, "add", "nested")
    git(workspace.cwd, "commit", "--quiet", "-m", "Add nested")
    again = await workspaces.prepare(of(source), workspace.cwd)
    (nested / "x").write_text("changed\n")
    set_traps(nested, tmp_path / "trap")

    before, since = await workspaces.describe(workspace), await workspaces.describe(again)

    assert {f["path"] for f in before["files"]} == {"nested"}
    assert since["files"] == []
    assert names_in(tmp_path / "trap") == []


async def test_programs_that_a_checkout_configures_are_not_run_by_the_next_fetch(
    workspaces: Workspaces, source: Path, tmp_path: Path
) -> None:
    commit(source, ".gitattributes", "* filter=evil diff=evil merge=evil\n")
    first = await workspaces.prepare(of(source))
    git(source, "checkout", "--quiet", "-b", "other")
    commit(source, "calc.py", "moved on\n")
    set_traps(first.cwd, tmp_path / "trap")

    switched = await workspaces.prepare(of(source, branch_name="other"), first.cwd)
    tip = commit(source, "calc.py", "and on\n")
    forwarded = await workspaces.prepare(of(source), first.cwd)

    assert (switched.branch, forwarded.commit) == ("other", tip)
    assert names_in(tmp_path / "trap") == []


async def test_hooks_and_monitors_of_the_user_are_not_run(
    tmp_path: Path, root: Path, source: Path
) -> None:
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    for name in ("post-checkout", "monitor"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran-{name}\n")
        (hooks / name).chmod(0o755)
    global_config = tmp_path / "gitconfig"
    global_config.write_text(f"[core]\n\thooksPath = {hooks}\n\tfsmonitor = {hooks}/monitor\n")
    environ = {**os.environ, "GIT_CONFIG_GLOBAL": str(global_config)}

    await make_workspaces(tmp_path, root, environ=environ).prepare(of(source))

    assert list(tmp_path.glob("ran-*")) == []


async def test_a_git_directory_that_leads_elsewhere_is_not_used(
    workspaces: Workspaces, source: Path, tmp_path: Path
) -> None:
    workspace = await workspaces.prepare(of(source))
    elsewhere = tmp_path / "elsewhere"
    (workspace.cwd / ".git").rename(elsewhere)
    (workspace.cwd / ".git").symlink_to(elsewhere)
    (workspace.cwd / "calc.py").write_text("changed\n")

    assert (await workspaces.describe(workspace))["files"] == []


async def test_nothing_of_ours_is_left_in_the_private_directory(
    workspaces: Workspaces, source: Path, tmp_path: Path
) -> None:
    workspace = await workspaces.prepare(of(source))
    await workspaces.prepare(of(source), workspace.cwd)
    await workspaces.describe(workspace)

    assert names_in(tmp_path / "private") == []


@pytest.mark.parametrize(
    "name", ["logs/HEAD", "refs/remotes/origin", "objects/pack", "index", "HEAD", "packed-refs"]
)
async def test_a_link_in_the_git_directory_leads_no_write_of_ours_outside(
    workspaces: Workspaces, source: Path, tmp_path: Path, name: str
) -> None:
    workspace = await workspaces.prepare(of(source))
    outside = tmp_path / "outside"
    place = workspace.cwd / ".git" / name
    if place.is_dir():
        shutil.copytree(place, outside)
        shutil.rmtree(place)
    else:
        outside.write_bytes(place.read_bytes() if place.exists() else b"")
        place.unlink(missing_ok=True)
    place.symlink_to(outside)
    before = {path: path.stat().st_mtime_ns for path in (outside, *outside.rglob("*"))}
    for number in range(120):  # enough for a fetch to keep a pack
        (source / f"new-{number}").write_text(str(number))
    git(source, "add", "--all")
    git(source, "commit", "--quiet", "-m", "new")
    git(source, "branch", "new")
    again = await workspaces.prepare(of(source, branch_name="new"))
    assert again.checkout != workspace.checkout
    assert (await workspaces.changes(workspace)).files == []
    assert {path: path.stat().st_mtime_ns for path in (outside, *outside.rglob("*"))} == before


async def test_folders_nested_deeper_than_python_goes_hinder_nobody(
    workspaces: Workspaces, source: Path
) -> None:
    workspace = await workspaces.prepare(of(source))
    (workspace.cwd / "new").write_text("new")
    nested = workspace.cwd / ".git" / "logs" / "deep"
    for _ in range(sys.getrecursionlimit()):
        nested.mkdir()
        nested = nested / "d"
    try:
        changed = await workspaces.changes(workspace)
    finally:  # nor could pytest remove them
        deep = workspace.cwd / ".git" / "logs" / "deep"
        await asyncio.to_thread(subprocess.check_call, ["rm", "-r", str(deep)])
    assert [file["path"] for file in changed.files] == ["new"]


async def test_objects_are_not_taken_from_a_place_that_the_checkout_names(
    workspaces: Workspaces, source: Path, tmp_path: Path
) -> None:
    other = make_repository(tmp_path / "other" / "private", {"a": "TOP SECRET"})
    workspace = await workspaces.prepare(of(source))
    alternates = workspace.cwd / ".git" / "objects" / "info" / "alternates"
    alternates.write_text(f"{other / '.git' / 'objects'}\n")
    theirs = git(other, "rev-parse", "HEAD").strip()
    (workspace.cwd / ".git" / "refs" / "heads" / "theirs").write_text(f"{theirs}\n")
    with pytest.raises(RunError):
        await workspaces.prepare(of(source, branch_name="theirs"))
    assert not (workspace.cwd / "a").exists()


async def test_the_empty_file_that_a_sandbox_leaves_for_alternates_is_harmless(
    workspaces: Workspaces, source: Path
) -> None:
    workspace = await workspaces.prepare(of(source))
    (workspace.cwd / ".git" / "objects" / "info" / "alternates").touch()
    (workspace.cwd / "new").write_text("new")
    changed = await workspaces.changes(workspace)
    assert [file["path"] for file in changed.files] == ["new"]


async def test_a_pipe_in_a_files_place_holds_nobody_up(
    workspaces: Workspaces, source: Path
) -> None:
    workspace = await workspaces.prepare(of(source))
    (workspace.cwd / ".git" / "index").unlink()
    os.mkfifo(workspace.cwd / ".git" / "index")
    assert (await workspaces.changes(workspace)).files == []


@pytest.mark.parametrize("name", ["own", "lfs"])
@pytest.mark.parametrize("commands", [("clean", "smudge"), ("process",)])
async def test_filters_that_the_user_has_configured_never_run(
    tmp_path: Path,
    root: Path,
    source: Path,
    name: str,
    commands: tuple[str, ...],
) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
    (source / ".gitattributes").write_text(f"[attr]large filter={name}\n*.bin large\n")
    (source / "docs" / ".gitattributes").write_text(f"* filter={name}\n")
    git(source, "add", "--all")
    commit(source, "data.bin", pointer)
    ran = tmp_path / "ran"
    config = tmp_path / "gitconfig"
    lines = [f'{command} = "touch {ran}; cat; exit 1"' for command in commands]
    config.write_text("\n".join([f'[filter "{name}"]', *lines, ""]))
    environ = {**os.environ, "GIT_CONFIG_GLOBAL": str(config)}
    workspaces = make_workspaces(tmp_path, root, environ=environ)

    workspace = await workspaces.prepare(of(source))
    (workspace.cwd / "docs" / "note.txt").write_text("changed\n")
    (workspace.cwd / "new.bin").write_text("new\n")
    changed = await workspaces.changes(workspace)
    (workspace.cwd / "docs" / "note.txt").write_text(FILES["docs/note.txt"])
    (workspace.cwd / "new.bin").unlink()
    commit(source, "data.bin", f"{pointer}\n")
    forwarded = await workspaces.prepare(of(source), workspace.cwd)
    git(source, "checkout", "--quiet", "-b", "other")
    commit(source, "data.bin", pointer)
    switched = await workspaces.prepare(of(source, branch_name="other"), workspace.cwd)

    assert {file["path"] for file in changed.files} == {"docs/note.txt", "new.bin"}
    assert forwarded.commit != workspace.commit
    assert switched.branch == "other"
    assert (switched.cwd / "data.bin").read_text() == pointer
    assert not ran.exists()
    git(tmp_path, "-c", f"include.path={config}", "clone", "--quiet", str(source), "by-hand")
    assert ran.exists()  # by hand they do run
