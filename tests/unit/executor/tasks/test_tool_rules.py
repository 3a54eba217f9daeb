"""Entries of ``allowed_tools``: what they allow, and above all what they do not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from executor.tasks.tool_rules import ToolRule


@dataclass(frozen=True)
class Here:
    cwd: Path
    servers: tuple[str, ...] = ("mcp__srv", "mcp__my__srv")


def matches(rule: str, tool: str, arguments: dict[str, Any], cwd: Path = Path("/w")) -> bool:
    return ToolRule.parse(rule).matches(tool, arguments, Here(cwd))


@pytest.mark.parametrize(
    ("rule", "command"),
    [
        ("Bash", "anything; at all"),
        ("Bash()", "anything"),
        ("Bash(*)", "anything"),
        ("Bash(git:*)", "git"),
        ("Bash(git:*)", "git commit -m 'a message (with signs); and more'"),
        ("Bash(git:*)", 'git commit -m ""'),
        ("Bash(git status *)", "git status --short"),
        ("Bash(npm test)", "npm  test"),
    ],
)
def test_a_command_that_a_rule_means_is_allowed(rule: str, command: str) -> None:
    assert matches(rule, "Bash", {"command": command})


@pytest.mark.parametrize(
    ("rule", "command"),
    [
        ("Bash(git:*)", "gitk"),
        ("Bash(git:*)", "rm -rf ."),
        ("Bash(git:*)", "git status; rm -rf ."),
        ("Bash(git:*)", "git status && rm -rf ."),
        ("Bash(git:*)", "git status | sh"),
        ("Bash(git:*)", "git status > file"),
        ("Bash(git:*)", "git status &"),
        ("Bash(git:*)", "git status\nrm -rf ."),
        ("Bash(git:*)", "git $(rm -rf .)"),
        ("Bash(git:*)", 'git "`rm -rf .`"'),
        ("Bash(git:*)", "git 'unclosed"),
        ("Bash(git:*)", "X=1 git status"),
        ("Bash(git:*)", ""),
        ("Bash(npm test)", "npm test --all"),
        ("Read", "git status"),
        ("bash(git:*)", "git status"),
        ("Bash(git:*", "git status"),
    ],
)
def test_a_command_that_a_rule_does_not_certainly_mean_is_refused(rule: str, command: str) -> None:
    assert not matches(rule, "Bash", {"command": command})


@pytest.mark.parametrize(
    ("rule", "path", "expected"),
    [
        ("Edit(src/**)", "/w/src/a/b.py", True),
        ("Edit(src/**)", "src/a.py", True),
        ("Edit(src/*.py)", "src/a.py", True),
        ("Edit(src/*.py)", "src/a/b.py", False),
        ("Edit(./src/?.py)", "src/a.py", True),
        ("Edit(/src/**)", "src/a.py", True),
        ("Edit(**/a.py)", "x/y/a.py", True),
        ("Edit(src/**)", "src/../other.py", False),
        ("Edit(src/**)", "/etc/src/a.py", False),
        ("Edit(//etc/*)", "/etc/hosts", True),
        ("Edit(~/notes/*)", "~/notes/a", True),
        ("Edit(src/**)", "\0", False),
    ],
)
def test_paths_of_rules_are_patterns_from_the_working_directory(
    rule: str, path: str, expected: bool, tmp_path: Path
) -> None:
    cwd = tmp_path.resolve()
    path = path.replace("/w/", f"{cwd}/")
    assert matches(rule, "Edit", {"file_path": path}, cwd) is expected


@pytest.mark.parametrize(
    ("rule", "tool", "expected"),
    [
        ("mcp__srv__tool", "mcp__srv__tool", True),
        ("mcp__srv__tool", "mcp__srv__other", False),
        ("mcp__srv", "mcp__srv__tool", True),
        ("mcp__srv__*", "mcp__srv__tool", True),
        ("mcp__srv(*)", "mcp__srv__tool", True),
        ("mcp__srv__to*", "mcp__srv__tool", True),
        ("mcp__srv__ro*", "mcp__srv__tool", False),
        ("mcp__srv(x)", "mcp__srv__tool", False),
        ("mcp__srv", "mcp__srv2__tool", False),
        ("mcp__srv", "Bash", False),
        ("mcp__my__srv", "mcp__my__srv__tool", True),
        ("mcp__my__srv__*", "mcp__my__srv__tool", True),
        ("mcp__my", "mcp__my__srv__tool", False),
        ("mcp__my__*", "mcp__my__srv__tool", False),
        ("mcp__new", "mcp__new__tool", True),
        ("mcp__*", "mcp__srv__tool", False),
        ("mcp__s*__tool", "mcp__srv__tool", False),
        ("Task", "Agent", True),
        ("WebSearch(site)", "WebSearch", False),
    ],
)
def test_names_of_tools(rule: str, tool: str, expected: bool) -> None:
    assert matches(rule, tool, {}) is expected


@pytest.mark.parametrize(
    ("rule", "url", "expected"),
    [
        ("WebFetch(domain:example.com)", "https://example.com/a", True),
        ("WebFetch(domain:example.com)", "https://EXAMPLE.com:8443/a", True),
        ("WebFetch(domain:example.com)", "https://example.com.evil.org/", False),
        ("WebFetch(domain:example.com)", "https://evil.org/?example.com", False),
        ("WebFetch(domain:example.com)", "https://example.com@evil.org/", False),
        ("WebFetch(domain:*.example.com)", "https://a.example.com/", True),
        ("WebFetch(domain:*.example.com)", "https://badexample.com/", False),
        ("WebFetch(domain:example.com)", "http://[", False),
    ],
)
def test_domains_of_rules(rule: str, url: str, expected: bool) -> None:
    assert matches(rule, "WebFetch", {"url": url}) is expected
