"""The bodies of docker mode: both shapes, what goes with them, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from shared.errors import ProtocolError, Refusal
from shared.protocol.http import CallbackTarget, read_seed_task, read_task
from shared.status import ErrorCode
from tests.fakes.docker_mode import SEED_000_TASK, SEED_002_TASK

TASK: dict[str, Any] = {"task_id": 1, "subtask_id": 2, "prompt": "go"}
SEED: dict[str, Any] = {"session_id": "s", "prompt": "go"}


def refusal(body: dict[str, Any]) -> ProtocolError:
    read = read_seed_task if "session_id" in body else read_task
    with pytest.raises(ProtocolError) as caught:
        read(body)
    assert "hunter2" not in str(caught.value)
    return caught.value


def test_the_sample_of_the_docker_mode_document_says_what_it_means() -> None:
    task = read_task(dict(SEED_002_TASK))
    request = task.request

    assert request.prompt == "Task Content"
    assert request.git_url == "https://github.com/example/repo.git"
    assert request.branch_name == "main"
    assert (request.git_username, request.git_password) == ("user", SecretStr("password"))
    assert task.target is None


def test_the_sample_of_the_executor_manager_says_what_it_means() -> None:
    task = read_seed_task(dict(SEED_000_TASK), trace_id="t")
    request = task.request

    assert (request.task_id, request.prompt) == ("session_uuid", "请分析代码")
    assert request.model == "claude-sonnet-4-20250514"
    assert (request.git_url, request.branch_name) == ("https://github.com/user/repo", "main")
    assert request.max_turns == 100
    assert request.sdk_session_id == "claude_sdk_id"
    assert task.target == CallbackTarget(
        "http://executor-manager:8001/api/v1/callback",
        SecretStr("token"),
        "http://executor-manager:8001",
        "t",
    )


def test_a_config_is_the_request_by_the_names_of_its_document() -> None:
    config = {
        "custom_instructions": "Be brief.",
        "max_turns": 3,
        "git_token": "t",
        "permission_mode": "plan",
        "timeout_seconds": 60,
        "mcp_config": {"mcpServers": {"a": {"command": "true"}}},
        "env": {"NAME": "value"},
        "attempt": 9,
        "task_id": "not this one",
        "unknown": "is left out",
    }
    request = read_seed_task(
        {**SEED, "run_id": 7, "attempt": 2, "config": config, "user_input_timeout_seconds": 0}
    ).request

    assert (request.task_id, request.subtask_id, request.attempt) == ("s", 7, 2)
    assert (request.system_prompt, request.max_turns) == ("Be brief.", 3)
    assert request.permission_mode == "plan"
    assert (request.timeout_seconds, request.user_input_timeout_seconds) == (60, 0)
    assert set(request.servers) == {"a"}
    assert request.first_bot.agent_config.env == {"NAME": "value"}


def test_a_task_without_a_run_id_gets_one_of_its_own() -> None:
    first, second = (read_seed_task(dict(SEED)).request for _ in range(2))

    assert first.subtask_id != second.subtask_id


def test_null_and_empty_say_nothing() -> None:
    body = {**SEED, "run_id": None, "config": None, "callback_url": "", "sdk_session_id": None}

    task = read_seed_task(body)

    assert task.request.sdk_session_id is None
    assert task.target is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({**TASK, "callback_url": "ftp://hunter2"}, "callback_url"),
        ({**TASK, "callback_url": "hunter2"}, "callback_url"),
        ({**TASK, "callback_url": "http://a:hunter2/"}, "callback_url"),
        ({**TASK, "callback_url": "http://u:hunter2@b/"}, "callback_url"),
        ({**TASK, "callback_base_url": "hunter2"}, "callback_base_url"),
        ({**TASK, "callback_base_url": "http://hunter2/"}, "callback_url"),
        ({**SEED, "callback_token": "hunter2"}, "callback_url"),
        ({**TASK, "callback_url": "http://a/", "callback_token": "hunter2\n"}, "callback_token"),
        ({**TASK, "callback_url": "http://a/", "callback_token": "hünter2"}, "callback_token"),
        ({**SEED, "session_id": "../hunter2"}, "session_id"),
        ({**SEED, "run_id": "../hunter2"}, "run_id"),
        ({**SEED, "attempt": 0}, "attempt"),
        ({**SEED, "prompt": ""}, "prompt"),
        ({**SEED, "config": "hunter2"}, "config"),
        ({**SEED, "config": []}, "config"),
        ({**SEED, "config": {"max_turns": 0}}, "config.max_turns"),
        ({**SEED, "config": {"custom_instructions": 5}}, "config.custom_instructions"),
        ({**SEED, "config": {"env": "hunter2"}}, "config.env"),
        ({**SEED, "sdk_session_id": "hunter2 x"}, "sdk_session_id"),
    ],
)
def test_what_cannot_be_used_is_named_as_the_body_names_it(
    body: dict[str, Any], field: str
) -> None:
    assert refusal(body).message.startswith(f"{field}: ")


@pytest.mark.parametrize(
    ("body", "place", "name"),
    [
        (TASK, "git_url", "git_url"),
        ({**TASK, "git_url": "https://a/b"}, "git_url", "git_url"),
        ({**TASK, "repo_url": "https://a/b"}, "git_url", "repo_url"),
        ({**TASK, "git_url": "", "repo_url": "https://a/b"}, "git_url", "repo_url"),
        ({**TASK, "repo_url": "https://a/b"}, "attachments.0.url", "attachments.0.url"),
        ({**SEED, "config": {"repo_url": "https://a/b"}}, "git_url", "config.repo_url"),
        ({**SEED, "config": {"git_url": "https://a/b"}}, "git_url", "config.git_url"),
        ({**SEED, "config": {"git_branch": "main"}}, "branch_name", "config.git_branch"),
        (SEED, "git_password", "config.git_password"),
        (SEED, "input_files.1.size", "config.input_files.1.size"),
        (SEED, "task_id", "session_id"),
    ],
)
def test_a_refusal_of_what_was_read_names_the_field_as_the_body_does(
    body: dict[str, Any], place: str, name: str
) -> None:
    task = (read_seed_task if "session_id" in body else read_task)(body)
    refusal = Refusal(ErrorCode.BUSY, f"{place}: too long: by far", reason="slots", hint="less")

    said = task.in_its_words(refusal)

    assert said.message == f"{name}: too long: by far"
    assert (said.error_code, said.reason, said.hint) == (ErrorCode.BUSY, "slots", "less")


def test_a_refusal_that_names_no_field_stays_as_it_is() -> None:
    task = read_seed_task({**SEED, "config": {"repo_url": "https://a/b"}})

    for message in ("the queue is full", "no servers outside: git_url: x", "disk: full"):
        refusal = Refusal(ErrorCode.BUSY, message)
        assert task.in_its_words(refusal) is refusal


@pytest.mark.parametrize("body", [None, [], "text", 5])
def test_a_body_that_is_no_object_is_refused(body: Any) -> None:
    for read in (read_task, read_seed_task):
        with pytest.raises(ProtocolError, match="must be an object"):
            read(body)


def test_the_default_address_serves_those_who_name_none_with_its_own_token() -> None:
    default = CallbackTarget("http://default/callback", SecretStr("of the default"))

    told = read_task(
        {**TASK, "callback_base_url": "http://default/"}, default=default, trace_id="t"
    )
    own = read_task({**TASK, "callback_url": "http://own/"}, default=default)

    assert told.target == CallbackTarget(default.url, default.token, "http://default", "t")
    assert own.target == CallbackTarget("http://own/", None)


@pytest.mark.parametrize(
    "base", ["http://elsewhere.example", "https://manager.example", "http://manager.example:81"]
)
@pytest.mark.parametrize("body", [TASK, SEED])
def test_the_token_of_the_default_address_goes_to_no_other_place(
    body: dict[str, Any], base: str
) -> None:
    default = CallbackTarget("http://manager.example/callback", SecretStr("own"))
    read = read_seed_task if "session_id" in body else read_task

    with pytest.raises(ProtocolError, match="callback_base_url: is another place") as refused:
        read(body | {"callback_base_url": base}, default=default)
    assert base not in str(refused.value)

    with_its_own = read(
        body | {"callback_base_url": base, "callback_token": "t"}, default=default
    ).target
    there = read(body | {"callback_base_url": "http://manager.example:80/"}, default=default).target
    without = read(
        body | {"callback_base_url": base}, default=CallbackTarget("http://manager.example/x")
    ).target
    assert with_its_own == CallbackTarget(default.url, SecretStr("t"), base)
    assert there == CallbackTarget(default.url, SecretStr("own"), "http://manager.example:80")
    assert without == CallbackTarget("http://manager.example/x", None, base)


def test_a_target_shows_no_token() -> None:
    task = read_task({**TASK, "callback_url": "http://a/", "callback_token": "hunter2"})

    assert "hunter2" not in repr(task)
