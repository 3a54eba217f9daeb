"""What a request brings besides its prompt, in every shape in which backends write it."""

from __future__ import annotations

from typing import Any

import pytest

from shared.errors import ProtocolError
from shared.protocol.execution import ExecutionRequest, read_execution_request

SECRET = "s3cr3t-value"
SERVER = {"type": "http", "url": "https://h/mcp"}
SKILL = {"SKILL.md": "text", "scripts/run.py": "pass"}


def read(**fields: Any) -> ExecutionRequest:
    return read_execution_request({"task_id": 1, "subtask_id": 2, "prompt": "go", **fields})


@pytest.mark.parametrize("field", ["mcp_servers", "mcp_config"])
@pytest.mark.parametrize(
    "given",
    [
        {"a": SERVER},
        {"mcpServers": {"a": SERVER}},
        [{"name": "a", **SERVER}],
        {"mcpServers": [{"name": "a", **SERVER}]},
    ],
)
def test_servers_are_read_in_every_shape(field: str, given: Any) -> None:
    assert read(**{field: given}).servers == {"a": SERVER}
    assert read(bot={"mcp_servers": given}).servers == {"a": SERVER}


def test_a_server_of_the_request_takes_the_place_of_the_bots() -> None:
    bot = {"mcp_servers": {"a": SERVER, "b": SERVER}}

    servers = read(bot=bot, mcp_servers={"a": {"command": "x"}}).servers

    assert servers == {"a": {"command": "x"}, "b": SERVER}


@pytest.mark.parametrize(
    "server", [{}, {"args": ["x"]}, {"type": "http"}, {"command": ""}, {"command": 5}]
)
def test_a_server_that_nobody_can_reach_is_refused_by_what_it_needs(server: Any) -> None:
    for fields, place in [
        ({"mcp_servers": {"a": server}}, "mcp_servers.a"),
        ({"bot": {"mcp_servers": [{"name": "a", **server}]}}, "bot.0.mcp_servers.a"),
    ]:
        with pytest.raises(ProtocolError, match="needs a command or a url") as raised:
            read(**fields)
        assert raised.value.fields == (place,)


def test_a_server_with_only_an_address_is_one_over_http() -> None:
    request = read(bot={"mcp_servers": {"a": {"url": "https://h/mcp"}}})

    assert request.servers == request.servers_of(request.first_bot) == {"a": SERVER}


def test_references_in_servers_are_resolved_from_the_requests_variables() -> None:
    server = {"type": "http", "url": "https://${HOST:-h}/", "headers": {"X-Key": "${KEY}"}}
    request = read(bot={"mcp_servers": {"a": server}}, variables={"KEY": SECRET})

    assert request.servers["a"]["headers"] == {"X-Key": SECRET}
    assert request.servers["a"]["url"] == "https://h/"
    assert SECRET in request.secrets
    assert SECRET not in repr(request)


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"mcp_servers": {"a": {"url": "${MISSING}"}}}, "mcp_servers"),
        ({"bot": {"mcp_servers": {"a": {"command": "x", "args": ["${MISSING}"]}}}}, "bot"),
        ({"bot": [{}, {"mcp_servers": {"a": {"command": "${MISSING}"}}}]}, "bot"),
    ],
)
def test_an_unknown_variable_is_refused_by_its_name(
    fields: dict[str, Any], place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MISSING", SECRET)

    with pytest.raises(ProtocolError, match="variable MISSING is not among") as raised:
        read(**fields)

    assert raised.value.fields == (place,)


def test_a_header_is_a_secret_whatever_its_variable_is_called() -> None:
    servers = {"a": {**SERVER, "headers": {"Authorization": "Bearer ${PLAIN}"}}}

    assert SECRET in read(mcp_servers=servers, variables={"PLAIN": SECRET}).secrets


def test_values_of_variables_that_name_secrets_are_secret() -> None:
    assert SECRET in read(variables={"API_TOKEN": SECRET, "BRANCH": "main"}).secrets
    assert "main" not in read(variables={"API_TOKEN": SECRET, "BRANCH": "main"}).secrets


@pytest.mark.parametrize(
    "given",
    [
        [{"name": "one", "files": SKILL}],
        {"one": SKILL},
        {"one": {"files": SKILL}},
        {"one/SKILL.md": "text", "one/scripts/run.py": "pass"},
        {"one": "text", "one/scripts/run.py": "pass"},
    ],
)
@pytest.mark.parametrize("field", ["skills", "skill_files"])
def test_skills_are_read_in_every_shape(field: str, given: Any) -> None:
    (skill,) = read(**{field: given}).all_skills

    assert skill.name == "one"
    assert {path: file.content for path, file in (skill.files or {}).items()} == SKILL


@pytest.mark.parametrize(
    "given",
    [
        [{"name": "one", "archive_base64": "UEs="}],
        {"one": {"archive": "UEs="}},
        [{"name": "one", "url": "/s/1", "sha256": "AB" * 32}],
        {"one": {"url": "/s/1", "sha256": "ab" * 32}},
    ],
)
def test_archives_of_skills_are_read(given: Any) -> None:
    (skill,) = read(skills=given).all_skills

    assert (skill.archive_base64, skill.url) in [("UEs=", None), (None, "/s/1")]
    assert skill.sha256 in (None, "ab" * 32)


def test_the_last_skill_of_a_name_counts_and_a_mere_name_replaces_none() -> None:
    request = read(
        bot={"skills": ["other", {"name": "one", "files": {"SKILL.md": "old"}}]},
        skills={"One": {"SKILL.md": "new"}},
        skill_files=["one"],
    )

    skills = {skill.name: skill.brings_content for skill in request.all_skills}
    assert skills == {"other": False, "One": True}


def test_names_of_skills_that_a_backend_knows_may_be_anything() -> None:
    assert read(bot={"skills": ["My Skill!", {"name": "x", "id": 3}]}).all_skills


@pytest.mark.parametrize(
    "given",
    [
        [{"path": "data/a.csv", "content": "1"}],
        [{"filename": "data/a.csv", "content": "1"}],
        {"data/a.csv": "1"},
        {"./data/a.csv": {"content": "1"}},
    ],
)
def test_input_files_are_read_in_every_shape(given: Any) -> None:
    (file,) = read(input_files=given).input_files

    assert (file.filename, file.content) == ("data/a.csv", "1")


def test_sub_agents_and_commands_are_read() -> None:
    agent = {"description": "d", "prompt": "p", "tools": "Read, Grep"}
    for agents in ({"critic": agent}, [{"name": "critic", **agent}]):
        assert read(agents=agents).agents["critic"].tools == ["Read", "Grep"]
    assert read(commands={"/fix": "Fix it"}).commands == {"fix": "Fix it"}


@pytest.mark.parametrize(
    ("fields", "at_fault"),
    [
        ({"mcp_servers": "x"}, "mcp_servers"),
        ({"mcp_servers": [SERVER]}, "mcp_servers"),
        ({"mcp_servers": [{"name": "a"}, {"name": "a"}]}, "mcp_servers"),
        ({"mcp_servers": {f"s{n}": SERVER for n in range(65)}}, "mcp_servers"),
        ({"skills": 5}, "skills"),
        ({"skills": [{"files": SKILL}]}, "skills.0.name"),
        ({"skills": {"../x": {"SKILL.md": ""}}}, "skills.0"),
        ({"skills": {"con": {"SKILL.md": ""}}}, "skills.0"),
        ({"skills": {"-x": {"SKILL.md": ""}}}, "skills.0"),
        ({"skills": {"x": {"README.md": ""}}}, "skills.0"),
        ({"skills": {"x": {"SKILL.md": "", "skill.MD": ""}}}, "skills.0"),
        ({"skills": {"x": {"SKILL.md": "", "../y": ""}}}, "skills.0.files"),
        ({"skills": {"x": {"SKILL.md": "", "a\\..\\y": ""}}}, "skills.0.files"),
        ({"skills": {"x": {"SKILL.md": 5}}}, "skills.0.files"),
        ({"skills": {"x": {"url": "/a", "archive": "YQ=="}}}, "skills.0"),
        ({"skills": {"x": {"url": "/a", "sha256": "zz"}}}, "skills.0.sha256"),
        ({"skills": [{"name": n, "url": "/a"} for n in ("x", "X")]}, "skills"),
        ({"skills": [f"s{n}" for n in range(101)]}, "skills"),
        ({"skills": {"x": {"SKILL.md": "", **{f"f{n}": "" for n in range(2000)}}}},
         "skills.0.files"),
        ({"skills": {f"s{s}": {f"f{n}": "" for n in range(1001)} for s in range(5)}}, "skills"),
        ({"input_files": [{"path": "a"}]}, "input_files.0"),
        ({"input_files": [{"path": "a", "content": "", "url": "/a"}]}, "input_files.0"),
        ({"input_files": [{"path": "../a", "content": ""}]}, "input_files.0.path"),
        ({"input_files": {"/etc/passwd": ""}}, "input_files.0.filename"),
        ({"input_files": {"a": "", "A": ""}}, "input_files"),
        ({"input_files": {f"f{n}": "" for n in range(1001)}}, "input_files"),
        ({"agents": {"x": {"description": "d"}}}, "agents.x.prompt"),
        ({"agents": {"a/b": {"description": "d", "prompt": "p"}}}, "agents"),
        ({"agents": {"x": {"description": "d", "prompt": "p" * 100_001}}}, "agents.x.prompt"),
        ({"commands": {"a b": "x"}}, "commands"),
        ({"commands": {"../a": "x"}}, "commands"),
        ({"commands": {"x": ""}}, "commands.x"),
        ({"commands": {"x": "x" * 100_001}}, "commands.x"),
        ({"variables": {"a-b": "x"}}, "variables"),
        ({"variables": {"A": ["x"]}}, "variables"),
        ({"variables": ["A"]}, "variables"),
        ({"user_input_timeout_seconds": -1}, "user_input_timeout_seconds"),
        ({"user_input_timeout_seconds": float("inf")}, "user_input_timeout_seconds"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(fields: dict[str, Any], at_fault: str) -> None:
    with pytest.raises(ProtocolError) as raised:
        read(**fields)

    assert raised.value.fields == (at_fault,)


@pytest.mark.parametrize(
    "fields",
    [
        {"variables": {"KEY": [SECRET]}},
        {"variables": {SECRET: "x"}},
        {"mcp_servers": {"a": {**SERVER, "headers": f"${{{SECRET}}}"}}},
        {"skills": {"a": {"archive": [SECRET]}}},
        {"skills": {"a": {f"../{SECRET}": SECRET}}},
        {"input_files": [{"path": f"../{SECRET}", "content": SECRET}]},
        {"commands": {"a": [SECRET]}},
        {"agents": {"a": {"prompt": [SECRET]}}},
    ],
)
def test_a_refusal_repeats_no_value(fields: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError) as raised:
        read(**fields)

    assert SECRET not in f"{raised.value} {raised.value.fields}"


def test_contents_do_not_show_in_the_requests_representation() -> None:
    request = read(
        variables={"A": SECRET},
        mcp_servers={"a": {"command": SECRET}},
        skills={"a": {"SKILL.md": SECRET}, "b": {"archive": SECRET}, "c": {"url": SECRET}},
        input_files=[{"path": "a", "content": SECRET}, {"path": "b", "url": SECRET}],
        agents={"a": {"description": "d", "prompt": SECRET}},
        commands={"a": SECRET},
    )

    assert SECRET not in repr(request)


def test_credentials_in_addresses_are_secrets() -> None:
    url = f"https://h/x?token={SECRET}"
    for fields in ({"skills": {"a": {"url": url}}}, {"input_files": [{"path": "a", "url": url}]}):
        assert SECRET in read(**fields).secrets
