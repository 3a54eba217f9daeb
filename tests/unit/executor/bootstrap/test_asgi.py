"""Docker mode in a server that somebody else starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from executor.bootstrap.asgi import reloads_on_work
from executor.config.docker import DockerSettings
from executor.config.loading import load_settings

UVICORN = ("uvicorn", "executor.main:app", "--port", "10001")


@pytest.mark.parametrize(
    ("variable", "place", "command", "warned"),
    [
        ("WORKSPACE_ROOT", "checkout/workspace", (*UVICORN, "--reload"), True),
        ("WORKSPACE_PATH", "checkout/only", (*UVICORN, "--reload"), True),
        ("WORKSPACE_ROOT", "elsewhere", (*UVICORN, "--reload"), False),
        ("WORKSPACE_ROOT", "checkout/workspace", UVICORN, False),
        (
            "WORKSPACE_ROOT",
            "checkout/workspace",
            (*UVICORN, "--reload", "--reload-dir=executor"),
            False,
        ),
    ],
)
def test_a_server_that_watches_the_work_of_agents_is_noticed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    place: str,
    command: tuple[str, ...],
    warned: bool,
) -> None:
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("WEGENT_EXECUTOR_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(variable, str(tmp_path / place))
    settings = load_settings()
    assert isinstance(settings, DockerSettings)

    assert reloads_on_work(settings, command) is warned
