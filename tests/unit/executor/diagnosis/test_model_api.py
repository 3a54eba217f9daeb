"""Key or login, and the way to the API; what is in a login is never read."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from executor.config.local import LocalSettings
from executor.diagnosis.finding import Finding, State
from executor.diagnosis.model_api import look_at_api
from tests.fakes.authority import Authority
from tests.fakes.http_proxy import HttpProxy, open_proxy
from tests.fakes.wire import Wire, open_wire

KEY = SecretStr("the-key-of-this-operator")


@pytest.fixture
async def api() -> AsyncIterator[Wire]:
    """It can be connected to, and that is all that may be done with it."""
    async with open_wire(0) as wire:
        yield wire


async def look(port: int, *, scheme: str = "http", **variables: Any) -> list[Finding]:
    given: dict[str, Any] = {
        "WEGENT_BACKEND_URL": "http://localhost:8001",
        "WEGENT_AUTH_TOKEN": SecretStr("a-token-for-tests"),
        "ANTHROPIC_BASE_URL": f"{scheme}://127.0.0.1:{port}",
    }
    settings = await asyncio.to_thread(lambda: LocalSettings(**given | variables))
    async with asyncio.timeout(30):
        return await look_at_api(settings, os.environ)


@pytest.mark.parametrize("variable", ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"])
async def test_a_key_that_is_set_is_ok(variable: str, api: Wire) -> None:
    given: dict[str, Any] = {variable: KEY}
    credentials, reached = await look(api.port, **given)

    assert (credentials.state, credentials.what) == (State.OK, f"{variable} is set")
    assert reached.state is State.OK


async def test_the_token_of_a_login_is_ok(api: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLAUDE_CODE_OAUTH_TOKEN", "the-token-of-a-login")

    credentials, _ = await look(api.port)

    assert credentials.what == "CLAUDE_CODE_OAUTH_TOKEN is set"


async def test_the_users_login_is_found_and_not_opened(
    api: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = tmp_path / ".credentials.json"
    login.write_text("the content of a login")
    os.utime(login, ns=(1, 10**18))  # the time of a first read would be later
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path))

    credentials, _ = await look(api.port)

    assert credentials.state is State.OK
    assert str(login) in credentials.what
    assert login.stat().st_atime_ns == 1


async def test_containers_know_no_login(
    api: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".credentials.json").write_text("the content of a login")
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path))
    credentials, _ = await look(api.port, LOCAL_ISOLATION="container")
    assert credentials.state is State.WARNING
    assert credentials.remedy == "export ANTHROPIC_API_KEY=your-key"


@pytest.mark.skipif(sys.platform == "darwin", reason="the login of whoever runs this may be there")
async def test_what_only_containers_know_by_name_is_not_looked_at_from_here() -> None:
    address = "http://host.docker.internal:9"
    given: dict[str, Any] = {"ANTHROPIC_BASE_URL": address, "ANTHROPIC_API_KEY": KEY}
    _, inside = await look(9, **given, LOCAL_ISOLATION="container")
    assert inside.state is State.OK
    assert "containers only" in inside.what
    _, here = await look(9, **given)
    assert here.state is State.FAILED


async def test_without_key_and_login_there_is_a_warning(api: Wire) -> None:
    credentials, _ = await look(api.port)

    assert credentials.state is State.WARNING
    assert credentials.remedy == "export ANTHROPIC_API_KEY=your-key, or: claude auth login"


async def test_an_api_out_of_reach_is_a_failure_for_whoever_has_a_key(api: Wire) -> None:
    await api.refuse()

    _, reached = await look(api.port, ANTHROPIC_API_KEY=KEY)

    assert (reached.check, reached.state) == ("Claude API", State.FAILED)
    assert "Connection refused" in reached.what
    assert "export ANTHROPIC_BASE_URL=" in str(reached.remedy)


@pytest.mark.skipif(sys.platform == "darwin", reason="the login of whoever runs this may be there")
async def test_an_api_out_of_reach_is_a_warning_where_tasks_must_bring_a_key(api: Wire) -> None:
    await api.refuse()

    _, reached = await look(api.port)

    assert reached.state is State.WARNING


async def test_the_authorities_of_claude_code_are_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    async with open_wire(0, authority.server("127.0.0.1")) as wire:
        _, reached = await look(wire.port, scheme="https", ANTHROPIC_API_KEY=KEY)
        assert reached.state is State.FAILED
        assert reached.remedy == "export SSL_CERT_FILE=/path/to/the-authority.pem"

        monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(authority.file))
        _, reached = await look(wire.port, scheme="https", ANTHROPIC_API_KEY=KEY)
        assert reached.state is State.OK


async def test_a_proxy_is_named_by_the_variable_that_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")

    _, reached = await look(1, ANTHROPIC_API_KEY=KEY)

    assert reached.what.startswith("ALL_PROXY names a socks5 proxy")


async def test_a_file_of_authorities_that_is_none_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "authority.pem"
    file.write_text("no certificate")
    monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(file))

    _, reached = await look(1, scheme="https", ANTHROPIC_API_KEY=KEY)

    what = f"NODE_EXTRA_CA_CERTS: {file} cannot be used: no certificate or crl found"
    assert reached.what == what


async def test_a_proxy_that_refuses_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_proxy(HttpProxy(refuses=403)) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url())
        _, reached = await look(1, scheme="https", ANTHROPIC_API_KEY=KEY)

    assert reached.state is State.FAILED
    assert "forbids 127.0.0.1" in reached.what
