"""The policy for tools, on a real folder with real links."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from executor.tasks.permissions import Limits, decide, limits_for, policy_for, stronger_mode
from executor.tasks.tool_rules import ToolRule
from tests.fakes.agent_jobs import make_request


@pytest.fixture
def limits(tmp_path: Path) -> Limits:
    home = tmp_path / "home"
    cwd = home / "workspace" / "1" / "repo"
    cwd.mkdir(parents=True)
    (home / "config.env").write_text("secret", encoding="utf-8")
    (tmp_path / "outside").mkdir()
    (cwd / "link").symlink_to(tmp_path / "outside")
    (cwd / "a" / "b" / "c").mkdir(parents=True)
    (cwd / "deep").symlink_to(cwd / "a" / "b" / "c")
    (cwd / "loop").symlink_to(cwd / "loop")
    return limits_for(
        make_request(),
        cwd=cwd,
        session_dir=cwd.parent,
        mode=None,
        claude_dir=home / "claude",
    )


INSIDE = [
    ("Write", {"file_path": "{cwd}/a.txt"}),
    ("Write", {"file_path": "a/b/c.txt"}),
    ("Read", {"file_path": "../attachments/x.pdf"}),
    ("Edit", {"file_path": "{cwd}/src/../a.txt"}),
    ("Glob", {"pattern": "**/*.py"}),
    ("Glob", {"pattern": "{cwd}/src/*.py"}),
    ("Glob", {"pattern": "*.py", "path": "src"}),
    ("Grep", {"pattern": "/etc/../passwd|..", "glob": "*.py"}),
    ("LS", {"path": "{cwd}"}),
    ("NotebookEdit", {"notebook_path": "n.ipynb"}),
    ("EnterWorktree", {"name": "side"}),
    ("Bash", {"command": "cat /etc/hostname"}),
    ("mcp__server__tool", {"file_path": "/etc/hostname"}),
]

OUTSIDE = [
    ("Write", {"file_path": "/etc/hostname"}),
    ("Write", {"file_path": "{cwd}/link/a.txt"}),
    ("Write", {"file_path": "{cwd}/link/../a.txt"}),
    ("Write", {"file_path": "{cwd}/deep/../../../a.txt"}),
    ("Write", {"file_path": "../../1-other/a.txt"}),
    ("Write", {"file_path": "../../2/a.txt"}),
    ("Write", {"file_path": "~/a.txt"}),
    ("Write", {"file_path": "~nobody-of-this-name/a.txt"}),
    ("Write", {"file_path": "{cwd}/a\0.txt"}),
    ("Write", {"file_path": "{cwd}/loop/a.txt"}),
    ("Write", {"file_path": 7}),
    ("Write", {"file_path": " /etc/hostname"}),
    ("Read", {"file_path": "\u00a0/etc/hostname"}),
    ("Read", {"file_path": "{home}/config.env"}),
    ("Read", {"file_path": "../../../config.env"}),
    ("MultiEdit", {"file_path": "/etc/hostname"}),
    ("NotebookEdit", {"notebook_path": "/n.ipynb"}),
    ("LS", {"path": "/"}),
    ("LSP", {"operation": "hover", "filePath": "/etc/hostname", "line": 1, "character": 1}),
    ("EnterWorktree", {"path": "/elsewhere"}),
    ("Glob", {"pattern": "/etc/*"}),
    ("Glob", {"pattern": "../../*"}),
    ("Glob", {"pattern": "*/../../../*"}),
    ("Glob", {"pattern": "*", "path": "../.."}),
    ("Glob", {"pattern": "../../../*", "path": "src"}),
    ("Grep", {"pattern": "x", "path": "{home}"}),
    ("Grep", {"pattern": "x", "glob": "/etc/*"}),
]


def fill(arguments: dict[str, Any], limits: Limits) -> dict[str, Any]:
    home = limits.root.parent.parent
    return {
        name: value.replace("{cwd}", str(limits.cwd)).replace("{home}", str(home))
        if isinstance(value, str)
        else value
        for name, value in arguments.items()
    }


@pytest.mark.parametrize(("tool", "arguments"), INSIDE)
def test_inside_the_session_everything_is_allowed(
    tool: str, arguments: dict[str, Any], limits: Limits
) -> None:
    assert decide(tool, fill(arguments, limits), limits).allowed
    assert decide(tool, fill(arguments, limits), limits, asked=True).allowed


@pytest.mark.parametrize(("tool", "arguments"), OUTSIDE)
@pytest.mark.parametrize("mode", [None, "acceptEdits"])
def test_file_tools_do_not_leave_the_session(
    tool: str, arguments: dict[str, Any], mode: str | None, limits: Limits
) -> None:
    decision = decide(tool, fill(arguments, limits), replace(limits, mode=mode))
    assert not decision.allowed
    assert str(limits.root) in decision.message


@pytest.mark.parametrize(
    "path", ["../.skills/skills/x/SKILL.md", "{cwd}/../.skills/hooks/hooks.json", "../.SKILLS/x"]
)
def test_what_acts_on_the_agents_next_start_is_read_and_not_written(
    path: str, limits: Limits
) -> None:
    (limits.cwd / "skills").symlink_to(limits.root / ".skills")
    for place in (path, "skills/x"):
        arguments = fill({"file_path": place}, limits)
        assert decide("Read", arguments, limits).allowed
        assert not decide("Write", arguments, limits).allowed
        assert not decide("Edit", arguments, limits).allowed


def test_claudes_state_is_the_agents_to_write_unless_it_is_its_own(tmp_path: Path) -> None:
    def allowed(claude_dir: Path) -> bool:
        limits = limits_for(
            make_request(), cwd=tmp_path, session_dir=tmp_path, mode=None, claude_dir=claude_dir
        )
        return decide("Write", {"file_path": ".claude/settings.json"}, limits).allowed

    assert allowed(tmp_path.parent / "claude")
    assert not allowed(tmp_path / ".claude")


def test_claudes_long_tool_results_of_this_session_may_be_read_and_not_written(
    limits: Limits,
) -> None:
    state = limits.claude_dir
    own = "".join(c if c.isalnum() else "-" for c in str(limits.cwd.resolve()))
    kept = {"file_path": f"{state}/projects/{own}/0000/tool-results/x.txt"}
    others = {"file_path": f"{state}/projects/-another/0000/tool-results/x.txt"}
    assert decide("Read", kept, limits).allowed
    assert not decide("Write", kept, limits).allowed
    assert not decide("Read", others, limits).allowed


def test_a_question_to_the_user_is_denied_with_advice_and_a_plan_goes_ahead(
    limits: Limits,
) -> None:
    assert decide("AskUserQuestion", {}, limits).allowed
    decision = decide("AskUserQuestion", {}, limits, asked=True)
    assert not decision.allowed
    assert "Decide yourself" in decision.message
    assert decide("ExitPlanMode", {}, limits, asked=True).allowed


@pytest.mark.parametrize("mode", ["auto", "acceptEdits", "default", "plan", "dontAsk"])
def test_in_claudes_own_modes_nobody_approves_what_it_would_ask(mode: str, limits: Limits) -> None:
    limits = replace(limits, mode=mode)
    assert decide("Bash", {"command": "make"}, limits).allowed
    assert not decide("Bash", {"command": "make"}, limits, asked=True).allowed
    assert not decide("ExitPlanMode", {}, limits, asked=True).allowed
    assert decide("Read", {"file_path": "../attachments/a"}, limits, asked=True).allowed


@pytest.mark.parametrize(
    ("mode", "tool", "question"),
    [
        (None, "AskUserQuestion", "question"),
        (None, "ExitPlanMode", "plan"),
        (None, "Bash", None),
        ("bypassPermissions", "Bash", None),
        ("bypassPermissions", "AskUserQuestion", "question"),
        ("default", "Bash", "permission"),
        ("default", "mcp__srv__tool", "permission"),
        ("default", "AskUserQuestion", "question"),
        ("acceptEdits", "Bash", "permission"),
        ("auto", "Bash", "permission"),
        ("plan", "ExitPlanMode", "plan"),
        ("plan", "Bash", "permission"),
        ("default", "Read", None),
        ("dontAsk", "Bash", None),
        ("dontAsk", "AskUserQuestion", None),
        ("dontAsk", "ExitPlanMode", None),
    ],
)
def test_what_is_put_to_the_user(
    mode: str | None, tool: str, question: str | None, limits: Limits
) -> None:
    limits = replace(limits, mode=mode)
    assert decide(tool, {}, limits, asked=True).question == question
    assert decide(tool, {}, limits).question is None  # every use, before the CLI's own rules


def test_an_unattended_plan_is_approved_when_nobody_can_be_asked(limits: Limits) -> None:
    assert decide("ExitPlanMode", {}, limits, asked=True).allowed
    assert not decide("AskUserQuestion", {}, limits, asked=True).allowed


@pytest.mark.parametrize("mode", [None, "default", "plan"])
@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("Write", {"file_path": "/etc/hostname"}),
        ("mcp__other__tool", {}),
        ("WebFetch", {"url": "https://elsewhere.example"}),
        ("SandboxNetworkAccess", {"host": "elsewhere.example"}),
    ],
)
def test_what_is_never_allowed_is_never_asked(
    mode: str | None, tool: str, arguments: dict[str, Any], limits: Limits
) -> None:
    listed = tuple(map(ToolRule.parse, ("Write", "WebFetch", "SandboxNetworkAccess")))
    bounded = replace(limits, mode=mode, hosts=("example.com",), rules=listed)
    decision = decide(tool, arguments, bounded, asked=True)
    assert (decision.allowed, decision.question) == (False, None)


def test_a_plan_goes_into_claudes_own_folder_for_them_and_nothing_else(limits: Limits) -> None:
    assert limits.claude_dir is not None
    plans = limits.claude_dir / "plans"
    plans.mkdir(parents=True)
    (plans / "link.md").symlink_to(limits.root.parent.parent / "config.env")
    for tool in ("Write", "Edit", "Read"):
        assert decide(tool, {"file_path": f"{plans}/three-random-words.md"}, limits).allowed
        for path in ("x.sh", "../settings.md", "deep/x.md", "link.md"):
            assert not decide(tool, {"file_path": f"{plans}/{path}"}, limits).allowed
        assert not decide(tool, {"file_path": 7}, limits).allowed
    assert not decide("Glob", {"pattern": f"{plans}/*"}, limits).allowed
    unknown = replace(limits, claude_dir=None)
    assert not decide("Write", {"file_path": f"{plans}/a.md"}, unknown).allowed


@pytest.mark.parametrize("pattern", ["{..,a}/{..,a}/*", "*/{b,..}/..", "a*/..", "{a,{b,..}}/*"])
def test_a_pattern_does_not_lead_outside_behind_its_first_wildcard(
    limits: Limits, pattern: str
) -> None:
    assert not decide("Glob", {"pattern": pattern}, limits).allowed


@pytest.mark.parametrize("pattern", ["*..py", "**/a..b/*", "{a,b..c}/*"])
def test_dots_within_a_name_lead_nowhere(limits: Limits, pattern: str) -> None:
    assert decide("Glob", {"pattern": pattern}, limits).allowed


def test_only_listed_tools_may_be_used(limits: Limits) -> None:
    request = make_request(allowed_tools=["Read", "Task", "mcp__srv"])
    listed = limits_for(
        request, cwd=limits.cwd, session_dir=limits.root, mode=None, claude_dir=None
    )
    assert decide("Read", {"file_path": "a"}, listed).allowed
    assert decide("Agent", {}, listed).allowed
    assert decide("mcp__srv__tool", {}, listed).allowed
    refused = decide("Bash", {"command": "ls"}, listed)
    assert not refused.allowed
    assert "Read, Task, mcp__srv" in refused.message
    assert not decide("Read", {"file_path": "/etc/hostname"}, listed).allowed


def test_the_requests_list_counts_before_the_bots(limits: Limits) -> None:
    request = make_request(allowed_tools=[], bot=[{"allowed_tools": ["Read"]}])
    none = limits_for(request, cwd=limits.cwd, session_dir=limits.root, mode=None, claude_dir=None)
    assert not decide("Read", {"file_path": "a"}, none).allowed


async def test_the_policy_looks_at_the_disk_off_the_event_loop(limits: Limits) -> None:
    policy = policy_for(limits)
    assert (await policy("Read", {"file_path": "a"})).allowed
    assert not (await policy("AskUserQuestion", {}, asked=True)).allowed


@pytest.mark.parametrize(
    ("operator", "requested", "result"),
    [
        (None, None, None),
        (None, "bypassPermissions", None),
        (None, "plan", "plan"),
        ("plan", None, "plan"),
        ("plan", "bypassPermissions", "plan"),
        ("default", "acceptEdits", "default"),
        ("acceptEdits", "default", "default"),
        ("auto", "acceptEdits", "acceptEdits"),
        ("default", "dontAsk", "dontAsk"),
        ("bypassPermissions", None, None),
    ],
)
def test_a_request_strengthens_the_mode_and_never_weakens_it(
    operator: str | None, requested: str | None, result: str | None
) -> None:
    assert stronger_mode(operator, requested) == result


@pytest.mark.parametrize(
    ("tool", "arguments", "allowed"),
    [
        ("Bash", {"command": "ls"}, True),
        ("Bash", {"command": "ls", "dangerouslyDisableSandbox": False}, True),
        ("Bash", {"command": "ls", "dangerouslyDisableSandbox": True}, False),
        ("Write", {"file_path": "a.txt"}, True),
        ("Write", {"file_path": "{cwd}/.git/hooks/pre-commit"}, False),
        ("Write", {"file_path": "sub/.GIT/config"}, False),
        ("Edit", {"file_path": "a/../.git/config"}, False),
        ("Edit", {"file_path": ".github/workflows/ci.yml"}, True),
        ("Read", {"file_path": ".git/config"}, True),
        ("WebFetch", {"url": "https://example.com/x"}, True),
        ("WebFetch", {"url": "http://169.254.169.254/"}, False),
        ("WebFetch", {}, False),
        ("WebSearch", {"query": "x"}, False),
        ("WebSearch", {"query": "x", "allowed_domains": ["example.com"]}, True),
        ("WebSearch", {"query": "x", "allowed_domains": ["example.com", "evil.net"]}, False),
        ("SandboxNetworkAccess", {"host": "example.com"}, True),
        ("SandboxNetworkAccess", {"host": "evil.net"}, False),
        ("EnterWorktree", {"name": "x"}, False),
        ("Agent", {"prompt": "x"}, True),
        ("Agent", {"prompt": "x", "isolation": "worktree"}, False),
    ],
)
@pytest.mark.parametrize("asked", [False, True])
def test_what_a_sandbox_leaves_open_is_closed(
    limits: Limits, tool: str, arguments: dict[str, Any], allowed: bool, asked: bool
) -> None:
    here = {
        k: str(v).format(cwd=limits.cwd) if k == "file_path" else v for k, v in arguments.items()
    }
    sandboxed = replace(limits, hosts=("example.com",))
    assert decide(tool, here, sandboxed, asked=asked).allowed is allowed
    assert decide(tool, here, limits, asked=asked).allowed


def test_a_rule_for_a_whole_server_is_read_with_the_names_of_the_requests_servers(
    limits: Limits,
) -> None:
    program = {"command": "x"}
    member = {"mcp_servers": {"its own": program}}
    request = make_request(
        allowed_tools=["mcp__my", "mcp__my__files", "mcp__its_own"],
        mcp_servers={"my__files": program, "my__other": program},
        bot=[{"members": [member]}],
    )
    bounded = limits_for(
        request, cwd=limits.cwd, session_dir=limits.root, mode=None, claude_dir=None
    )

    assert decide("mcp__my__files__read", {}, bounded).allowed
    assert decide("mcp__its_own__read", {}, bounded).allowed
    assert not decide("mcp__my__other__read", {}, bounded).allowed
