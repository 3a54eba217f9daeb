from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from executor.tasks.agent_environment import ExecutorApi
from executor.tasks.agent_rules import AgentRules
from executor.tasks.containers.request import container_request
from executor.tasks.questions import UserInput
from shared.errors import RunError
from shared.protocol.execution import read_execution_request
from shared.status import ErrorCode
from tests.fakes.agent_jobs import make_request

BACKEND = "https://backend.example"


def payload_of(
    *,
    api: ExecutorApi | None = None,
    environ: dict[str, str] | None = None,
    mode: str | None = None,
    user_input: UserInput | None = None,
    **fields: Any,
) -> dict[str, Any]:
    rules = AgentRules(
        home=Path("/home"),
        environ=environ or {},
        api=api or ExecutorApi(api_key="own-key", base_url="https://api.example"),
        permission_mode=mode,
    )
    return container_request(
        make_request(**fields),
        rules=rules,
        user_input=user_input or UserInput(timeout_s=600, run_timeout_s=3600),
        stall_timeout_s=300,
        backend_url=BACKEND,
    )


def env_of(payload: dict[str, Any]) -> dict[str, Any]:
    return dict(payload["bot"][0]["agent_config"]["env"])


def test_the_executors_own_key_goes_along_with_its_own_address() -> None:
    env = env_of(payload_of())
    assert env == {"ANTHROPIC_API_KEY": "own-key", "ANTHROPIC_BASE_URL": "https://api.example"}


def test_a_request_with_a_key_of_its_own_gets_no_other() -> None:
    given = {"agent_config": {"env": {"api_key": "theirs", "base_url": "https://other.example"}}}
    env = env_of(payload_of(bot=given))
    assert env == {"ANTHROPIC_API_KEY": "theirs", "ANTHROPIC_BASE_URL": "https://other.example"}


def test_the_executors_key_goes_to_no_other_address() -> None:
    given = {"agent_config": {"env": {"base_url": "https://other.example"}}}
    with pytest.raises(RunError) as failed:
        payload_of(bot=given)
    assert failed.value.error_code is ErrorCode.CREDENTIALS_MISSING


def test_a_login_of_this_machine_is_no_key_in_a_container() -> None:
    with pytest.raises(RunError, match="login of this machine") as failed:
        payload_of(api=ExecutorApi(), environ={"CLAUDE_CONFIG_DIR": "/home/user/.claude"})
    assert failed.value.error_code is ErrorCode.CREDENTIALS_MISSING
    token = {"CLAUDE_CODE_OAUTH_TOKEN": "login-token"}
    assert env_of(payload_of(api=ExecutorApi(), environ=token)) == token


def test_nothing_else_of_this_machines_environment_goes_along() -> None:
    environ = {"PATH": "/bin", "WEGENT_AUTH_TOKEN": "backend", "AWS_SECRET_ACCESS_KEY": "aws"}
    assert set(env_of(payload_of(environ=environ))) == {"ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"}


def test_the_limits_of_this_executor_hold_inside() -> None:
    payload = payload_of()
    assert payload["timeout_seconds"] == 3600
    assert payload["stall_timeout_seconds"] == 300
    assert payload["user_input_timeout_seconds"] == 600
    own = payload_of(timeout_seconds=5, stall_timeout_seconds=6, user_input_timeout_seconds=7)
    assert own["timeout_seconds"] == 5
    assert own["stall_timeout_seconds"] == 6
    assert own["user_input_timeout_seconds"] == 7


def test_nobody_is_asked_inside_when_nobody_can_answer() -> None:
    nobody = UserInput(timeout_s=600, run_timeout_s=3600, answerable=lambda: False)
    payload = payload_of(user_input=nobody, user_input_timeout_seconds=60)
    assert payload["user_input_timeout_seconds"] == 0


@pytest.mark.parametrize(
    ("mode", "asked", "got"),
    [
        (None, None, None),
        ("plan", None, "plan"),
        ("plan", "bypassPermissions", "plan"),
        (None, "plan", "plan"),
    ],
)
def test_the_stronger_permission_mode_holds(
    mode: str | None, asked: str | None, got: str | None
) -> None:
    assert payload_of(mode=mode, permission_mode=asked).get("permission_mode") == got
    of_bot = payload_of(mode=mode, bot={"permission_mode": asked})
    assert of_bot.get("permission_mode") == got


def test_where_it_runs_is_not_passed_on() -> None:
    payload = payload_of(isolation="container", container_mode="persistent", executor_image="x:1")
    assert not {"isolation", "container_mode", "executor_image"} & set(payload)


def test_the_executors_model_counts_when_the_request_names_none() -> None:
    api = ExecutorApi(api_key="own-key", model="small")
    assert payload_of(api=api)["model"] == "small"
    assert payload_of(api=api, model="large")["model"] == "large"
    of_bot = payload_of(api=api, bot={"agent_config": {"env": {"model": "large"}}})
    assert "model" not in of_bot
    assert env_of(of_bot)["ANTHROPIC_MODEL"] == "large"


def test_the_token_for_files_goes_to_this_backend_only() -> None:
    assert payload_of(auth_token="t")["backend_url"] == BACKEND
    same = payload_of(auth_token="t", backend_url=f"{BACKEND}/prefix")
    assert (same["auth_token"], same["backend_url"]) == ("t", f"{BACKEND}/prefix")
    other = payload_of(auth_token="t", backend_url="https://other.example")
    assert "auth_token" not in other
    assert other["backend_url"] == "https://other.example"


def test_the_executor_inside_reads_it() -> None:
    request = read_execution_request(payload_of(prompt="go", subtask_id="x"))
    assert request.run.key == ("x", 1)
