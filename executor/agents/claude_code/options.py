"""From a job to the SDK's options: one pure function."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

from claude_agent_sdk import (
    AgentDefinition,
    CanUseTool,
    ClaudeAgentOptions,
    HookCallback,
    HookMatcher,
)
from claude_agent_sdk.types import PermissionMode, SandboxSettings, SettingSource

from executor.agents.claude_code.private_files import PrivateFiles
from executor.agents.claude_code.sandbox import sandbox_settings
from executor.agents.protocol import AgentJob

MAX_MESSAGE_BYTES: Final = 64 * 2**20
"""Longest line that the CLI may write; a tool result with pictures takes several MB."""

ABSENT_TOOLS: Final = (
    "CronCreate",
    "CronDelete",
    "CronList",
    "ListAgents",
    "Monitor",
    "ScheduleWakeup",
    "SendMessage",
    "Workflow",
)
"""Not offered: they act when a run is over and nobody listens, or reach other sessions."""


def build_options(
    job: AgentJob,
    cli: Path,
    files: PrivateFiles,
    *,
    can_use_tool: CanUseTool,
    before_tool: HookCallback,
    stderr: Callable[[str], None],
) -> ClaudeAgentOptions:
    """What the CLI is started with. The environment is not part of it: see the transport."""
    request, bot = job.request, job.request.first_bot
    allowed = request.allowed_tools if request.allowed_tools is not None else bot.allowed_tools
    disallowed = [*(request.disallowed_tools or ()), *(bot.disallowed_tools or ()), *ABSENT_TOOLS]
    # As root the CLI refuses its own bypass mode; unattended comes to the same.
    mode = None if job.permission_mode == "bypassPermissions" else job.permission_mode
    prompt = files.system_prompt
    return ClaudeAgentOptions(
        cli_path=cli,
        cwd=job.cwd,
        # Appended through a file: one argument is limited to 128 KiB. Without a snapshot, so that
        # the texts of this run count when an older conversation is continued.
        system_prompt={"type": "preset", "preset": "claude_code", "snapshot": False},
        extra_args={"append-system-prompt-file": str(prompt)} if prompt else {},
        setting_sources=_setting_sources(job),
        plugins=[{"type": "local", "path": str(job.skills.folder)}] if job.skills else [],
        # Commands in a skill's text would run before any policy is asked.
        settings=json.dumps({"disableSkillShellExecution": True}) if job.skills else None,
        agents=_sub_agents(job),
        mcp_servers=files.mcp_config or {},
        strict_mcp_config=True,
        tools=None if allowed is None else builtin_tools(allowed),
        disallowed_tools=list(dict.fromkeys(disallowed)),
        can_use_tool=can_use_tool,
        hooks={"PreToolUse": [HookMatcher(hooks=[before_tool], on_failure="block")]},
        permission_mode=cast("PermissionMode", mode or "default"),
        model=job.model,
        max_turns=request.max_turns or bot.max_turns,
        max_budget_usd=request.max_budget_usd,
        resume=job.resume,
        include_partial_messages=True,
        forward_subagent_text=True,
        # Otherwise `@/path` in a prompt reads that file, past every permission.
        verbatim_prompts=True,
        max_buffer_size=MAX_MESSAGE_BYTES,
        stderr=stderr,
        sandbox=_sandbox(job, files),
    )


def _setting_sources(job: AgentJob) -> list[SettingSource]:
    sources: list[SettingSource] = ["user"] if job.config_dir is None else []
    # What a repository brings is not trusted unless the operator says so: neither of these two.
    return [*sources, "project", "local"] if job.trust_repository else sources


def _sub_agents(job: AgentJob) -> dict[str, AgentDefinition] | None:
    return {
        name: AgentDefinition(agent.description, agent.prompt, agent.tools, model=agent.model)
        for name, agent in job.request.agents.items()
    } or None


def _sandbox(job: AgentJob, files: PrivateFiles) -> SandboxSettings | None:
    if job.sandbox is None or files.temporary is None:
        return None
    return cast("SandboxSettings", sandbox_settings(job.sandbox, files.temporary))


def builtin_tools(rules: list[str]) -> list[str]:
    """The names for ``tools``: without specifiers (``Bash(git:*)``) and without MCP tools.

    Both are enforced by the permission policy; ``tools`` knows neither.
    """
    names = (rule.partition("(")[0].strip() for rule in rules)
    return list(dict.fromkeys(name for name in names if name and not name.startswith("mcp__")))
