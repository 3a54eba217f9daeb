"""What an agent's process is started with."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from executor.tasks.agent_environment import (
    AgentEnvironment,
    ExecutorApi,
    agent_environment,
    users_claude_state,
)
from shared.errors import RunError
from shared.status import ErrorCode
from tests.fakes.agent_jobs import make_request

HOME = Path("/home/of-the-executor")
OWN = ExecutorApi(api_key="sk-own", base_url="https://own.example")


def environment(
    env: dict[str, Any] | None = None,
    *,
    environ: dict[str, str] | None = None,
    executor: ExecutorApi = OWN,
    **fields: Any,
) -> AgentEnvironment:
    request = make_request(bot=[{"agent_config": {"env": env or {}}}], **fields)
    return agent_environment(request, environ=environ or {}, executor=executor, home=HOME)


def test_only_listed_variables_of_the_executor_are_inherited() -> None:
    environ = {
        "PATH": "/bin",
        "HOME": "/home/me",
        "LC_ALL": "C.UTF-8",
        "HTTPS_PROXY": "http://proxy",
        "SSL_CERT_FILE": "/ca.pem",
        "WEGENT_AUTH_TOKEN": "secret",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "GITHUB_TOKEN": "secret",
        "LD_LIBRARY_PATH": "/bundle",
        "ANTHROPIC_CUSTOM_HEADERS": "secret",
    }
    env = environment(environ=environ).env
    assert {name: env[name] for name in environ if name in env} == {
        "PATH": "/bin",
        "HOME": "/home/me",
        "LC_ALL": "C.UTF-8",
        "HTTPS_PROXY": "http://proxy",
        "SSL_CERT_FILE": "/ca.pem",
    }


def test_what_the_agent_starts_sees_the_executors_network_under_its_own_variables() -> None:
    environ = {"HTTP_PROXY": "proxy:1", "SSL_CERT_FILE": "/ca.pem", "SSL_CERT_DIR": "/ca"}
    env = environment(environ=environ).env
    assert env["http_proxy"] == "http://proxy:1"
    assert env["NODE_EXTRA_CA_CERTS"] == env["GIT_SSL_CAINFO"] == "/ca.pem"
    assert env["GIT_SSL_CAPATH"] == "/ca"


@pytest.mark.parametrize(
    ("path", "passed_on"),
    [("/a::.:/b:bin:~/bin:", "/a:/b"), ("/a", "/a"), (".", None), ("", None)],
)
def test_no_program_is_looked_for_in_the_working_directory(
    path: str, passed_on: str | None
) -> None:
    assert environment(environ={"PATH": path}).env.get("PATH") == passed_on


def test_short_names_become_the_clis_variables_and_model_id_comes_before_model() -> None:
    found = environment(
        {
            "model": "plain",
            "model_id": "exact",
            "api_key": "sk-theirs",
            "auth_token": "token",
            "base_url": "https://theirs.example",
            "small_model": "small",
            "MY_FLAG": True,
            "MY_NUMBER": 7,
            "NOTHING": None,
            "LIST": ["a"],
        }
    )
    assert found.model == "exact"
    expected = {
        "ANTHROPIC_MODEL": "exact",
        "ANTHROPIC_API_KEY": "sk-theirs",
        "ANTHROPIC_AUTH_TOKEN": "token",
        "ANTHROPIC_BASE_URL": "https://theirs.example",
        "ANTHROPIC_SMALL_FAST_MODEL": "small",
        "MY_FLAG": "true",
        "MY_NUMBER": "7",
    }
    assert {name: found.env[name] for name in expected} == expected
    assert not {"api_key", "model", "model_id", "NOTHING", "LIST"} & set(found.env)


def test_the_order_of_models_is_run_request_executor() -> None:
    executor = ExecutorApi(api_key="k", model="of-the-executor")
    assert environment(executor=executor).model == "of-the-executor"
    assert environment({"model": "of-the-bot"}, executor=executor).model == "of-the-bot"
    found = environment({"model": "of-the-bot"}, model="of-the-run")
    assert found.model == found.env["ANTHROPIC_MODEL"] == "of-the-run"
    assert environment().model is None


@pytest.mark.parametrize(
    "name",
    [
        "LD_PRELOAD", "DYLD_INSERT_LIBRARIES", "PATH", "Path", "PYTHONPATH", "HTTPS_PROXY",
        "all_proxy", "NODE_OPTIONS", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "GIT_SSH_COMMAND",
        "GIT_CONFIG_COUNT", "BASH_ENV", "ENV", "SHELLOPTS", "BASH_FUNC_ls", "HOME",
        "CLAUDE_CONFIG_DIR", "WEGENT_AUTH_TOKEN", "WEGENT_AGENT_PROCESS",
        "CLAUDE_CODE_API_BASE_URL",
        "ANTHROPIC_UNIX_SOCKET", "ANTHROPIC_BEDROCK_BASE_URL", "CLAUDE_CODE_SHELL_PREFIX",
        "AWS_CONFIG_FILE", "AWS_ENDPOINT_URL", "RIPGREP_CONFIG_PATH", "npm_config_node_options",
        "GOOGLE_APPLICATION_CREDENTIALS",
        "CLAUDE_ENV_FILE", "CLAUDE_CODE_PLUGIN_DIRS", "NAME WITH SPACE", "A=B", "",
    ],
)  # fmt: skip
def test_variables_that_change_loading_trust_or_addresses_are_not_taken(name: str) -> None:
    env = environment({name: "theirs"}).env
    assert "theirs" not in env.values()


def test_a_value_with_nul_is_not_taken() -> None:
    assert "BAD" not in environment({"BAD": "a\0b"}).env


def test_the_executors_key_goes_to_its_own_base_url() -> None:
    found = environment()
    assert found.env["ANTHROPIC_API_KEY"] == "sk-own"
    assert found.env["ANTHROPIC_BASE_URL"] == "https://own.example"
    assert found.config_dir == HOME / "claude"
    assert environment({"base_url": "https://own.example/"}).env["ANTHROPIC_API_KEY"] == "sk-own"


@pytest.mark.parametrize("executor", [OWN, ExecutorApi(api_key="sk-own"), ExecutorApi()])
@pytest.mark.parametrize("name", ["base_url", "ANTHROPIC_BASE_URL"])
def test_another_base_url_without_a_key_fails(executor: ExecutorApi, name: str) -> None:
    with pytest.raises(RunError) as caught:
        environment({name: "https://theirs.example", "api_key": ""}, executor=executor)
    assert caught.value.error_code == ErrorCode.CREDENTIALS_MISSING
    assert "theirs.example" not in str(caught.value)


def test_another_base_url_with_its_own_key_never_sees_the_executors() -> None:
    executor = ExecutorApi("sk-own", "own-token", "https://own.example")
    found = environment(
        {"base_url": "https://theirs.example", "auth_token": "theirs"}, executor=executor
    )
    assert found.env["ANTHROPIC_AUTH_TOKEN"] == "theirs"
    assert "ANTHROPIC_API_KEY" not in found.env
    assert "own-token" not in found.env.values()


def test_a_requests_key_alone_goes_to_the_executors_base_url() -> None:
    found = environment({"api_key": "theirs"})
    assert found.env["ANTHROPIC_API_KEY"] == "theirs"
    assert found.env["ANTHROPIC_BASE_URL"] == "https://own.example"


def test_without_any_key_the_users_own_login_is_used() -> None:
    found = environment(executor=ExecutorApi(), environ={"CLAUDE_CONFIG_DIR": "/mine"})
    assert found.config_dir is None
    assert found.env["CLAUDE_CONFIG_DIR"] == "/mine"
    assert "ANTHROPIC_API_KEY" not in found.env
    assert "CLAUDE_CONFIG_DIR" not in environment(environ={"CLAUDE_CONFIG_DIR": "/mine"}).env


def test_the_clis_own_settings_have_defaults_that_a_request_may_change() -> None:
    assert environment().env["CLAUDE_CODE_DISABLE_BACKGROUND_TASKS"] == "1"
    changed = environment({"CLAUDE_CODE_ENABLE_TODO_TOOLS": "0"})
    assert changed.env["CLAUDE_CODE_ENABLE_TODO_TOOLS"] == "0"


def test_the_users_own_state_of_claude_is_where_claude_looks_for_it() -> None:
    assert users_claude_state({"HOME": "/h"}) == Path("/h/.claude")
    assert users_claude_state({"HOME": "/h", "CLAUDE_CONFIG_DIR": "/c"}) == Path("/c")
    assert users_claude_state({}) is None


def test_the_operators_variables_are_below_those_of_the_request() -> None:
    executor = ExecutorApi(api_key="sk-own").with_variables(
        {"PLACE": "here", "KIND": "operator", "PATH": "/evil", "N": 1, "NESTED": {"a": 1}}
    )

    found = environment({"KIND": "request"}, executor=executor)

    assert (found.env["PLACE"], found.env["KIND"], found.env["N"]) == ("here", "request", "1")
    assert found.env.get("PATH") != "/evil"
    assert "NESTED" not in found.env
    assert found.env["ANTHROPIC_API_KEY"] == "sk-own"


@pytest.mark.parametrize(
    ("env", "wanted", "model"),
    [
        ({}, None, "claude-own"),
        ({"provider": "openai"}, None, None),
        ({"model": "openai"}, None, None),
        ({"model": "openai", "model_id": "x"}, None, "x"),
        ({"OPENAI_MODEL": "x"}, None, "x"),
        ({"OPENAI_API_KEY": "k"}, None, None),
        ({"provider": "openai"}, "y", "y"),
        ({"provider": "anthropic"}, None, "claude-own"),
    ],
)
def test_the_model_of_agno_is_told_as_agno_finds_it(
    env: dict[str, Any], wanted: str | None, model: str | None
) -> None:
    executor = ExecutorApi(api_key="sk-own", model="claude-own")
    found = environment(env, executor=executor, agent_type="agno", model=wanted)
    assert found.model == model


def test_the_operator_is_told_which_variables_are_left_out_and_no_value(
    caplog: pytest.LogCaptureFixture,
) -> None:
    given = {"PATH": "v1", "A B": "v2", "C=v3": "v4", "NESTED": {"v5": 1}, "api_key": ["v6"]}
    ExecutorApi().with_variables(given)

    refused, no_text = caplog.messages
    assert "no agent is given 'A B', 'C', 'PATH': these are no names of variables" in refused
    assert "no agent is given 'NESTED', 'api_key': a value must be" in no_text
    assert not {f"v{n}" for n in range(1, 7)} & set(re.findall(r"v\d", caplog.text))

    caplog.clear()
    ExecutorApi().with_variables({"PLACE": "here", "model": "m", "N": 1, "ABSENT": None})
    assert not caplog.messages


def test_a_key_among_the_operators_variables_goes_to_its_own_address_only() -> None:
    executor = ExecutorApi().with_variables(
        {"ANTHROPIC_API_KEY": "sk-own", "ANTHROPIC_BASE_URL": "https://own.example"}
    )

    assert environment(executor=executor).env["ANTHROPIC_API_KEY"] == "sk-own"
    with pytest.raises(RunError) as caught:
        environment({"base_url": "https://other.example"}, executor=executor)
    assert caught.value.error_code is ErrorCode.CREDENTIALS_MISSING


def test_the_executors_own_key_counts_more_than_one_among_the_variables() -> None:
    executor = ExecutorApi(auth_token="own").with_variables({"api_key": "sk-other", "model": "m"})

    assert (executor.api_key, executor.auth_token, executor.model) == (None, "own", "m")


def test_another_agent_bounds_its_keys_itself_and_gets_none_of_the_executors_nor_a_login() -> None:
    login = {"CLAUDE_CONFIG_DIR": "/mine", "CLAUDE_CODE_OAUTH_TOKEN": "login"}
    found = environment(
        {"model_id": "gpt-x", "OPENAI_API_KEY": "theirs", "base_url": "http://theirs.example"},
        environ=login,
        agent_type="Agno",
    )

    assert found.model == "gpt-x"
    assert found.config_dir is None
    assert not {"sk-own", "/mine", "login"} & set(found.env.values())
