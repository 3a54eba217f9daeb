"""The command line that a job leads to, as the SDK builds it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from claude_agent_sdk import PermissionResultAllow

from executor.agents.claude_code.options import build_options
from executor.agents.claude_code.private_files import (
    MAX_INSTRUCTIONS_BYTES,
    PrivateFiles,
    appended_prompt,
    folder_in,
    read_instructions,
    remove,
)
from executor.agents.claude_code.transport import ProcessTransport
from executor.agents.process_tree import MARK_VARIABLE
from executor.agents.protocol import AgentJob
from executor.agents.skills import SkillSet, folder_digest
from shared.errors import RunError
from shared.status import ErrorCode
from tests.fakes.agent_jobs import JobMaker

NO_FILES = PrivateFiles(Path("/private"), None, None)


async def _allow(*_: Any) -> PermissionResultAllow:
    return PermissionResultAllow()


async def _no_decision(*_: Any) -> Any:
    return {}


def transport(job: AgentJob, files: PrivateFiles = NO_FILES) -> ProcessTransport:
    options = build_options(
        job,
        Path("/bin/claude"),
        files,
        can_use_tool=_allow,
        before_tool=_no_decision,
        stderr=lambda _: None,
    )
    return ProcessTransport(options, job.env, job.private_dir)


def command(job: AgentJob, files: PrivateFiles = NO_FILES) -> list[str]:
    return transport(job, files).command()


def value(arguments: list[str], flag: str) -> str | None:
    return arguments[arguments.index(flag) + 1] if flag in arguments else None


@pytest.fixture
def maker(tmp_path: Path) -> JobMaker:
    return JobMaker(tmp_path, "http://127.0.0.1:1")


def test_the_command_line_says_what_the_request_says(maker: JobMaker) -> None:
    arguments = command(
        maker.job(
            model="some-model",
            max_turns=7,
            max_budget_usd=1.5,
            disallowed_tools=["WebSearch"],
            resume="761c489f-b16f-4a2a-bf85-9fbc2f2ba327",
        )
    )
    assert arguments[0] == "/bin/claude"
    assert value(arguments, "--model") == "some-model"
    assert value(arguments, "--max-turns") == "7"
    assert value(arguments, "--max-budget-usd") == "1.5"
    assert value(arguments, "--permission-prompt-tool") == "stdio"
    assert value(arguments, "--input-format") == "stream-json"
    assert "WebSearch" in (value(arguments, "--disallowedTools") or "")
    assert "--resume=761c489f-b16f-4a2a-bf85-9fbc2f2ba327" in arguments
    assert {"--include-partial-messages", "--strict-mcp-config"} <= set(arguments)
    assert "--tools" not in arguments
    assert "--allowedTools" not in arguments
    assert "--system-prompt" not in arguments


def test_tools_that_act_when_a_run_is_over_are_not_to_be_had_by_listing_them(
    maker: JobMaker,
) -> None:
    arguments = command(maker.job(allowed_tools=["Read", "Workflow"]))
    assert "Workflow" in (value(arguments, "--disallowedTools") or "").split(",")


def test_settings_of_a_repository_are_never_loaded(maker: JobMaker) -> None:
    job = maker.job()
    assert "--setting-sources=" in command(job)
    assert "--setting-sources=user" in command(replace(job, config_dir=None))


def test_secrets_and_long_texts_are_in_files_and_not_in_the_command_line(maker: JobMaker) -> None:
    job = maker.job(
        system_prompt="x" * 100_000,
        bot=[
            {
                "system_prompt": "y" * 100_000,
                "mcp_servers": {"s": {"url": "http://h", "headers": {"A": "mcp-secret"}}},
            }
        ],
    )
    files = PrivateFiles.write(job, folder_in(job.private_dir))
    arguments = command(job, files)
    assert "mcp-secret" not in str(arguments)
    assert "sk-test-key" not in str(arguments)
    assert max(map(len, arguments)) < 1000
    assert value(arguments, "--mcp-config") == str(files.mcp_config)
    assert value(arguments, "--append-system-prompt-file") == str(files.system_prompt)
    assert files.folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in files.folder.iterdir()} == {0o600}
    remove(files.folder)
    remove(files.folder)
    assert list(job.private_dir.iterdir()) == []


def skills_in(folder: Path) -> SkillSet:
    (folder / "skills" / "greet").mkdir(parents=True)
    (folder / "skills" / "greet" / "SKILL.md").write_text("Say hello.")
    digest = folder_digest(folder)
    assert digest is not None
    return SkillSet(folder, ("greet",), digest)


def test_skills_are_a_plugin_whose_text_starts_no_program(maker: JobMaker, tmp_path: Path) -> None:
    job = replace(maker.job(), skills=skills_in(tmp_path / ".skills"))
    arguments = command(job)
    assert value(arguments, "--plugin-dir") == str(tmp_path / ".skills")
    assert json.loads(value(arguments, "--settings") or "") == {"disableSkillShellExecution": True}
    assert not {"--plugin-dir", "--settings"} & set(command(maker.job()))


def test_a_sandboxed_run_may_not_write_what_is_protected(maker: JobMaker, tmp_path: Path) -> None:
    maker.hosts = ()
    job, skills = maker.job(), skills_in(tmp_path / ".skills")
    assert job.sandbox is not None
    protecting = replace(job.sandbox, protected=(skills.folder,))
    files = replace(NO_FILES, temporary=tmp_path)
    arguments = command(replace(job, sandbox=protecting, skills=skills), files)
    settings = json.loads(value(arguments, "--settings") or "")
    assert str(skills.folder) in settings["sandbox"]["filesystem"]["denyWrite"]
    assert settings["disableSkillShellExecution"] is True


def test_skills_that_somebody_has_changed_are_not_read(maker: JobMaker, tmp_path: Path) -> None:
    job = replace(maker.job(), skills=skills_in(tmp_path / ".skills"))
    remove(PrivateFiles.write(job, folder_in(job.private_dir)).folder)
    (tmp_path / ".skills" / "hooks").mkdir()
    (tmp_path / ".skills" / "hooks" / "hooks.json").write_text("{}")
    with pytest.raises(RunError, match="were changed") as raised:
        PrivateFiles.write(job, folder_in(job.private_dir))
    assert raised.value.error_code is ErrorCode.WORKSPACE_ERROR
    assert list(job.private_dir.iterdir()) == []


def test_a_server_of_the_request_takes_the_place_of_the_bots(maker: JobMaker) -> None:
    job = maker.job(
        bot=[{"mcp_servers": {"a": {"command": "old"}, "b": {"command": "kept"}}}],
        mcp_servers={"a": {"command": "${NEW}"}},
        variables={"NEW": "new"},
    )
    files = PrivateFiles.write(job, folder_in(job.private_dir))
    assert files.mcp_config is not None
    servers = json.loads(files.mcp_config.read_text())["mcpServers"]
    assert servers == {"a": {"command": "new"}, "b": {"command": "kept"}}


def test_allowed_tools_become_the_only_builtin_tools(maker: JobMaker) -> None:
    rules = ["Read", "Bash(git:*)", "Bash(npm test)", "mcp__srv__tool"]
    assert value(command(maker.job(allowed_tools=rules)), "--tools") == "Read,Bash"
    assert value(command(maker.job(allowed_tools=[])), "--tools") == ""
    bot = [{"allowed_tools": ["Edit"]}]
    assert value(command(maker.job(bot=bot)), "--tools") == "Edit"
    assert value(command(maker.job(allowed_tools=["Read"], bot=bot)), "--tools") == "Read"


@pytest.mark.parametrize(
    ("mode", "passed"),
    [(None, "default"), ("bypassPermissions", "default"), ("plan", "plan"), ("auto", "auto")],
)
def test_the_permission_mode_is_passed_but_for_the_one_that_root_may_not_use(
    mode: str | None, passed: str, maker: JobMaker
) -> None:
    maker.mode = mode
    assert value(command(maker.job()), "--permission-mode") == passed


def test_the_environment_is_the_jobs_and_what_the_sdk_needs(
    maker: JobMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_UNKNOWN_VARIABLE", "secret")
    job = maker.job()
    assert set(transport(job)._env) - set(job.env) == {
        "CLAUDE_CODE_ENTRYPOINT",
        "CLAUDE_AGENT_SDK_VERSION",
        "PWD",
        MARK_VARIABLE,
    }


def test_the_repositorys_instructions_come_last_and_are_bounded(maker: JobMaker) -> None:
    (maker.cwd / "CLAUDE.md").write_text("ä" * MAX_INSTRUCTIONS_BYTES, encoding="utf-8")
    found = read_instructions(maker.cwd, maker.session_dir)
    assert len(found.encode()) == MAX_INSTRUCTIONS_BYTES
    job = maker.job(system_prompt=" of the request ", bot=[{"system_prompt": "of the bot"}])
    text = appended_prompt(job, "of the repository")
    assert text.startswith("of the request\n\nof the bot\n\nInstructions of this repository")
    assert text.endswith("of the repository")
    assert appended_prompt(maker.job(), "  ") == ""


def test_an_agent_is_told_where_files_are(maker: JobMaker) -> None:
    assert appended_prompt(maker.job(), "") == ""
    text = appended_prompt(maker.job(input_files={f"f{n}": "" for n in range(51)}), "")
    assert f"{maker.session_dir}/input: f0, f1, " in text
    assert " f49 and 1 more." in text
    assert f"{maker.session_dir}/output" in text


def test_instructions_that_lead_out_of_the_session_are_not_read(maker: JobMaker) -> None:
    secret = maker.root / "secret"
    secret.write_text("secret", encoding="utf-8")
    (maker.cwd / "CLAUDE.md").symlink_to(secret)
    assert read_instructions(maker.cwd, maker.session_dir) == ""
    (maker.cwd / "CLAUDE.md").unlink()
    assert read_instructions(maker.cwd, maker.session_dir) == ""
    (maker.cwd / "CLAUDE.md").mkdir()
    assert read_instructions(maker.cwd, maker.session_dir) == ""
