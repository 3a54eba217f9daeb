"""Which hooks an executor finds: installed packages, named classes, executables, its own."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from executor.bootstrap import hooks
from executor.bootstrap.hooks import find_hooks
from executor.bootstrap.local import run_local
from executor.config.loading import load_settings
from executor.config.local import LocalSettings
from executor.config.types import class_names
from executor.hooks.commands import CommandHook
from executor.signals import StopSignals
from shared.errors import ConfigError
from shared.redaction import Redactor
from tests.fakes.hook_packages import install, put_modules


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of modules that is on the path."""
    folder = tmp_path / "packages"
    folder.mkdir()
    put_modules(folder)
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        del sys.modules[name]


def settings(home: Path, **more: Any) -> LocalSettings:
    return LocalSettings(
        WEGENT_EXECUTOR_HOME=str(home),
        WEGENT_BACKEND_URL="http://127.0.0.1:1",
        WEGENT_AUTH_TOKEN="token",
        **more,
    )


def found(home: Path, **more: Any) -> list[str]:
    return [source.name for source in find_hooks(settings(home, **more), {}, None)]


def test_installed_named_executable_and_own_hooks_are_found(packages: Path, tmp_path: Path) -> None:
    install(packages, "acme-audit", "sample_hook:MyCustomHook")
    program = tmp_path / "hooks" / "notify"
    program.parent.mkdir(mode=0o700)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    names = found(tmp_path, WEGENT_HOOKS="sample_hook:MyCustomHook, audited_hook:AuditedHook")
    assert names == [
        "acme-audit",
        "sample_hook:MyCustomHook",
        "audited_hook:AuditedHook",
        "notify",
        "workspace",
        "todo",
    ]


def test_without_any_setting_there_are_those_of_the_executor(tmp_path: Path) -> None:
    assert found(tmp_path) == ["workspace", "todo"]
    assert found(tmp_path, WEGENT_BUILTIN_HOOKS=False) == []


def test_every_source_makes_hooks(packages: Path, tmp_path: Path) -> None:
    program = tmp_path / "hooks" / "notify"
    program.parent.mkdir(mode=0o700)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    named = settings(tmp_path, WEGENT_HOOKS="sample_hook:MyCustomHook")
    made = [(source.make or source.kind)() for source in find_hooks(named, {"PATH": "/bin"}, None)]
    assert [type(hook).__name__ for hook in made] == [
        "MyCustomHook",
        "CommandHook",
        "WorkspaceHook",
        "TodoHook",
    ]
    assert isinstance(made[1], CommandHook)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("nowhere_to_be_found:Hook", "ModuleNotFoundError"),
        ("sample_hook:Missing", "AttributeError"),
        ("sample_hook:Any", "is no hook"),
        ("broken_hook:Hook", "ZeroDivisionError"),
        ("leaving_hook:Hook", "SystemExit"),
    ],
)
def test_a_hook_that_cannot_be_used_stops_the_start(
    packages: Path, tmp_path: Path, name: str, reason: str
) -> None:
    (packages / "broken_hook.py").write_text("1 / 0")
    (packages / "leaving_hook.py").write_text("raise SystemExit(3)")
    with pytest.raises(ConfigError, match=reason) as error:
        found(tmp_path, WEGENT_HOOKS=name)
    assert f"WEGENT_HOOKS: {name}" in str(error.value)


def test_an_installed_hook_that_cannot_be_used_names_its_entry_point(
    packages: Path, tmp_path: Path
) -> None:
    install(packages, "acme-audit", "nowhere_to_be_found:Hook")
    with pytest.raises(ConfigError, match="the entry point acme-audit"):
        found(tmp_path)


@pytest.mark.parametrize("value", ["module", "module:", ":Class", "a b:C", "m:C;n:D"])
def test_names_of_another_form_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match="module:Class"):
        class_names(value)


def test_a_wrong_name_is_told_with_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEGENT_EXECUTOR_HOME", str(tmp_path))
    monkeypatch.setenv("WEGENT_HOOKS", "just-a-name")
    with pytest.raises(ConfigError, match="WEGENT_HOOKS: must be module:Class"):
        load_settings()


def test_no_executable_is_used_where_agents_may_write(tmp_path: Path) -> None:
    program = tmp_path / "hooks" / "notify"
    program.parent.mkdir(mode=0o700)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    around = find_hooks(settings(tmp_path, WEGENT_BUILTIN_HOOKS=False), {}, tmp_path)
    assert around == []


def test_storage_without_its_library_is_warned_of_and_the_rest_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(hooks, "storage_installed", lambda: False)
    assert found(tmp_path, S3_BUCKET="bucket") == ["workspace", "todo"]
    assert "wegent-executor[storage]" in caplog.text
    caplog.clear()
    assert found(tmp_path) == ["workspace", "todo"]
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({"S3_ENDPOINT": "http://localhost:9000"}, "S3_BUCKET"),
        ({"S3_ACCESS_KEY": "key", "S3_SECRET_KEY": "secret"}, "S3_BUCKET"),
        ({"S3_BUCKET": "b", "S3_ACCESS_KEY": "key"}, "S3_SECRET_KEY"),
        ({"S3_BUCKET": "b", "S3_SECRET_KEY": "secret"}, "S3_ACCESS_KEY"),
    ],
)
def test_half_of_a_storage_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], missing: str
) -> None:
    monkeypatch.setenv("WEGENT_EXECUTOR_HOME", str(tmp_path))
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"{missing}: is not set") as error:
        load_settings()
    assert "secret" not in str(error.value).replace("S3_SECRET_KEY", "")


def test_the_keys_of_the_storage_are_secrets_of_the_settings(tmp_path: Path) -> None:
    made = settings(tmp_path, S3_BUCKET="b", S3_ACCESS_KEY="the-key", S3_SECRET_KEY="the-secret")
    assert {"the-key", "the-secret"} <= set(made.secrets)


async def test_an_executor_with_a_hook_that_cannot_be_used_does_not_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    made = await asyncio.to_thread(settings, tmp_path, WEGENT_HOOKS="nowhere_to_be_found:Hook")
    with pytest.raises(ConfigError, match="nowhere_to_be_found"):
        async with asyncio.timeout(50):
            await run_local(made, StopSignals(), Redactor())
    assert "Starting Local Executor Runner" not in caplog.text
