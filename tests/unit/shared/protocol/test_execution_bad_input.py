from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ProtocolError
from shared.protocol.bot import Bot
from shared.protocol.execution import (
    MAX_DEPTH,
    ExecutionRequest,
    Isolation,
    read_execution_request,
)

BASE = {"task_id": 1, "subtask_id": 2, "prompt": "go"}
SECRET = "s3cr3t-value"


def read(**fields: Any) -> ExecutionRequest:
    return read_execution_request({**BASE, **fields})


@pytest.mark.parametrize("raw", [None, "text", 1, [], [BASE], True])
def test_what_is_not_an_object_is_refused(raw: object) -> None:
    with pytest.raises(ProtocolError, match="must be an object") as raised:
        read_execution_request(raw)

    assert raised.value.fields == ()


@pytest.mark.parametrize("missing", ["task_id", "subtask_id", "prompt"])
def test_a_missing_field_is_named(missing: str) -> None:
    with pytest.raises(ProtocolError) as raised:
        read_execution_request({k: v for k, v in BASE.items() if k != missing})

    assert raised.value.fields == (missing,)


@pytest.mark.parametrize("field", ["task_id", "subtask_id"])
@pytest.mark.parametrize(
    "value",
    [-1, "", "a/b", "a\\b", "..", ".", "../x", "a..b", ".hidden", "-x", "a.", "a b", "a\0", "con",
     "NUL.txt", "x" * 129, 10**128, "é", 1.5, True, None, [], {}],
)  # fmt: skip
def test_an_id_that_cannot_name_a_folder_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ProtocolError) as raised:
        read(**{field: value})

    assert raised.value.fields == (field,)


@pytest.mark.parametrize("value", [0, 7, 2**63, "0", "task-1", "a.b_c", "x" * 128], ids=repr)
def test_an_id_is_echoed_as_it_came(value: int | str) -> None:
    request = read(task_id=value)

    assert request.task_id == value
    assert type(request.task_id) is type(value)


@pytest.mark.parametrize("field", ["timeout_seconds", "stall_timeout_seconds", "max_budget_usd"])
@pytest.mark.parametrize("value", [float("inf"), float("nan"), 0, -1])
def test_a_limit_that_limits_nothing_is_refused(field: str, value: float) -> None:
    with pytest.raises(ProtocolError) as raised:
        read(**{field: value})

    assert raised.value.fields == (field,)


@pytest.mark.parametrize(
    "outer", [lambda inner: [inner], lambda inner: {"a": inner}], ids=["lists", "objects"]
)
def test_what_nests_too_deep_is_refused_by_its_name(outer: Callable[[object], object]) -> None:
    nested: object = "x"
    for _ in range(MAX_DEPTH - 1):
        nested = outer(nested)
    servers = {"mcp_servers": {"a": {"env": nested}}}
    with pytest.raises(ProtocolError, match="must not nest deeper than 64") as raised:
        read(bot=servers)
    assert raised.value.fields == ("bot",)
    with pytest.raises(ProtocolError) as raised:
        read(**{"An odd name": [servers]})
    assert raised.value.fields == ("request",)
    assert read(bot={"agent_config": {"env": {"A": [[["x"]]]}}}).bot


@pytest.mark.parametrize("prompt", ["", "  \n\t", [], [{"type": "text", "text": " "}], None])
def test_an_empty_prompt_is_refused(prompt: Any) -> None:
    with pytest.raises(ProtocolError) as raised:
        read(prompt=prompt)

    assert raised.value.fields == ("prompt",)


def test_a_prompt_of_ten_megabytes_is_refused_in_a_short_sentence() -> None:
    with pytest.raises(ProtocolError, match="prompt: must be at most") as raised:
        read(prompt="x" * 10_000_000)

    assert len(str(raised.value)) < 200


def test_content_is_another_name_for_the_prompt() -> None:
    raw = {"task_id": 1, "subtask_id": 2, "content": [{"type": "text", "text": "go"}]}

    assert read_execution_request(raw).prompt_text == "go"


def test_a_prompt_may_be_a_picture_alone() -> None:
    request = read(prompt=[{"type": "image", "source": {"type": "base64", "data": "YQ=="}}])

    assert request.prompt_text == ""


@pytest.mark.parametrize(
    ("fields", "at_fault"),
    [
        ({"git_url": "-x"}, "git_url"),
        ({"git_url": "ext::sh"}, "git_url"),
        ({"git_url": "/srv/x"}, "git_url"),
        ({"git_url": 5}, "git_url"),
        ({"branch_name": "-x"}, "branch_name"),
        ({"branch_name": "a..b"}, "branch_name"),
        ({"attempt": 0}, "attempt"),
        ({"attempt": 2**31}, "attempt"),
        ({"bot": "x"}, "bot"),
        ({"bot": [{"max_turns": 0}]}, "bot.0.max_turns"),
        ({"bot": [{"agent_config": {"env": "x"}}]}, "bot.0.agent_config.env"),
        ({"timeout_seconds": 0}, "timeout_seconds"),
        ({"timeout_seconds": "soon"}, "timeout_seconds"),
        ({"max_budget_usd": -1}, "max_budget_usd"),
        ({"permission_mode": "root"}, "permission_mode"),
        ({"isolation": "vm"}, "isolation"),
        ({"attachments": [{"filename": "a"}]}, "attachments.0"),
        ({"attachments": [{"filename": "", "url": "x"}]}, "attachments.0.filename"),
        ({"attachments": [{"filename": "a", "url": "x", "size": -1}]}, "attachments.0.size"),
        ({"sdk_session_id": "../x"}, "sdk_session_id"),
        ({"system_prompt": "x" * 100_001}, "system_prompt"),
        ({"user": "ada"}, "user"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], at_fault: str) -> None:
    with pytest.raises(ProtocolError) as raised:
        read(**fields)

    assert raised.value.fields == (at_fault,)
    assert at_fault in str(raised.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"git_token": [SECRET]},
        {"auth_token": {"x": SECRET}},
        {"git_url": f"ftp://u:{SECRET}@h/x"},
        {"git_url": f"https://u:p@h:{SECRET}/x"},
        {"branch_name": f"-{SECRET}"},
        {"task_id": f"{SECRET}/.."},
        {"prompt": {"text": SECRET}},
        {"prompt": [{"type": "text", "text": [SECRET]}]},
        {"prompt": [{"type": SECRET}]},
        {"bot": [{"agent_config": {"env": [SECRET]}}]},
        {"bot": [{"mcp_servers": {SECRET: 1}}]},
        {"permission_mode": SECRET},
        {"isolation": SECRET},
        {"attachments": [{"filename": "a", "content_base64": [SECRET]}]},
    ],
)
def test_a_refusal_repeats_no_value(fields: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as raised:
        read(**fields)

    assert SECRET not in f"{raised.value} {raised.value.fields}"
    assert raised.value.__cause__ is None


def test_secrets_do_not_show_in_the_requests_representation() -> None:
    request = read(
        git_token=SECRET,
        git_password=SECRET,
        auth_token=SECRET,
        git_url=f"https://u:{SECRET}@h/x",
        user={"git_token": SECRET},
        prompt=SECRET,
        bot={
            "agent_config": {"env": {"api_key": SECRET}},
            "mcp_servers": {"a": {"command": "a", "x": SECRET}},
        },
        attachments=[{"filename": "a", "content_base64": SECRET}],
    )

    assert SECRET not in repr(request)


@pytest.mark.parametrize("blank", [None, ""])
def test_null_and_empty_mean_not_said(blank: str | None) -> None:
    request = read(git_url=blank, branch_name=blank, agent_type=blank)

    assert (request.git_url, request.branch_name) == (None, None)
    assert request.requested_agent == "claude_code"


def test_other_names_and_unknown_fields_are_taken() -> None:
    request = read(repo_url="https://h/x", git_branch="main", nonsense={"a": 1})

    assert (request.git_url, request.branch_name) == ("https://h/x", "main")


@pytest.mark.parametrize(
    "bot",
    [{"agent_config": None}, {"agent_config": {"env": None}}, dict.fromkeys(Bot.model_fields)],
)
def test_what_a_bot_leaves_out_may_be_null(bot: dict[str, Any]) -> None:
    assert read(bot=[bot]).bot == [Bot()]


def test_one_bot_is_a_list_of_one() -> None:
    request = read(bot={"shell_type": "ClaudeCode"})

    assert request.requested_agent == "ClaudeCode"


def test_a_request_strengthens_isolation_and_never_weakens_it() -> None:
    assert Isolation.NONE.stronger(Isolation.SANDBOX) is Isolation.SANDBOX
    assert Isolation.CONTAINER.stronger(Isolation.NONE) is Isolation.CONTAINER


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.sampled_from(sorted(ExecutionRequest.model_fields)), JSON, max_size=6))
def test_any_json_is_read_or_refused_by_name(raw: dict[str, Any]) -> None:
    try:
        request = read_execution_request(raw)
    except ProtocolError as refused:
        assert refused.fields
        json.dumps(str(refused)).encode()
    else:
        assert request.run.key == (str(raw["subtask_id"]), request.attempt)
