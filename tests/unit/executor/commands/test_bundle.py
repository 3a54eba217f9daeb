"""``wegent-executor bundle``: what is in the archive, and above all what is not."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from executor.delivery.state import StateStore
from executor.exit_status import ExitStatus
from shared.protocol.events import AgentEvent, EventType, NumberedEvent, RunRef
from shared.version import __version__

TOKEN = "token/of+this operator=".replace(" ", "-")
KEY = "key-of-the-model-api"
PROXY_PASSWORD = "pass:of/the proxy"
SECRETS = (TOKEN, KEY, PROXY_PASSWORD)
PROMPT = "please repair the time machine"


def forms(secret: str) -> list[str]:
    return [
        secret,
        quote(secret, safe=""),
        base64.b64encode(secret.encode()).decode(),
        base64.b64encode(f"me:{secret}".encode()).decode(),
        base64.urlsafe_b64encode(f"user:{secret}:".encode()).decode(),
        secret.encode().hex(),
    ]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with secrets in every corner."""
    home = tmp_path / "home"
    logs = home / "logs"
    logs.mkdir(parents=True)
    (home / "config.env").write_text(f"WEGENT_AUTH_TOKEN={TOKEN}\n")
    said = " ".join(form for secret in SECRETS for form in forms(secret))
    (logs / "executor.log").write_text(
        f"2026-01-01 00:00:01 - [x] - [in y.py:1] - ERROR - it said {said}\n    {said}\n"
        "2026-01-01 00:00:02 - [x] - [in y.py:1] - INFO - the end\n"
    )
    return home


@pytest.fixture
def bundle(home: Path, repository_root: Path) -> Callable[[], subprocess.CompletedProcess[str]]:
    """Makes ``report.tar.gz`` beside the home; nothing it looks at needs a network."""
    login = quote(PROXY_PASSWORD, safe="")

    def bundle_() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "executor.main", "bundle", "-o", "report.tar.gz"],
            cwd=home.parent,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(home.parent),
                "PYTHONPATH": str(repository_root),
                "WEGENT_EXECUTOR_HOME": str(home),
                "WEGENT_BACKEND_URL": "http://127.0.0.1:1",
                "WEGENT_EXECUTOR_NAME": f"box {KEY}",
                "ANTHROPIC_API_KEY": KEY,
                "ANTHROPIC_BASE_URL": "http://127.0.0.1:1",
                "WEGENT_CLAUDE_PATH": str(home / "no-claude"),
                "HTTPS_PROXY": f"http://me:{login}@127.0.0.1:1",
            },
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )

    return bundle_


Bundle = Callable[[], subprocess.CompletedProcess[str]]


async def fill_state(home: Path) -> None:
    store = await StateStore.open(home / "state.db")
    run = RunRef(7, 70)
    await store.accept(run)
    event = AgentEvent(EventType.LLM_STREAM, {"text": PROMPT, "message_id": "m"})
    store.add_event(1, NumberedEvent(run, 1, event), written=lambda _position: None)
    await store.close()


def files_in(archive: Path) -> dict[str, str]:
    files = {}
    with tarfile.open(archive) as opened:
        for member in opened.getmembers():
            file = opened.extractfile(member)
            assert file is not None
            files[member.name.removeprefix("report/")] = file.read().decode()
    return files


async def test_the_archive_has_what_a_report_needs_and_the_output_lists_it(
    home: Path, bundle: Bundle
) -> None:
    await fill_state(home)

    done = await asyncio.to_thread(bundle)

    assert (done.returncode, done.stderr) == (ExitStatus.OK, "")
    files = files_in(home.parent / "report.tar.gz")
    assert sorted(files) == [
        "config.json", "doctor.json", "executor.log", "state.json", "status.json", "version.json",
    ]  # fmt: skip
    assert __version__ in json.loads(files["version.json"])["version"]
    settings = json.loads(files["config.json"])["settings"]
    assert settings["WEGENT_BACKEND_URL"]["value"] == "http://127.0.0.1:1"
    assert json.loads(files["doctor.json"])["checks"]
    assert json.loads(files["status.json"])["state"] == "not_running"
    state = json.loads(files["state.json"])
    assert (state["runs"], state["events_waiting"]) == ({"running": 1}, {"llm.stream": 1})
    assert files["executor.log"].endswith("INFO - the end\n")
    for name in files:
        assert f"\n{name} " in done.stdout
    assert str(home.parent / "report.tar.gz") in done.stdout


async def test_no_file_has_a_secret_in_any_form_or_what_users_said(
    home: Path, bundle: Bundle
) -> None:
    await fill_state(home)

    done = await asyncio.to_thread(bundle)

    files = files_in(home.parent / "report.tar.gz")
    for text in (*files.values(), done.stdout, done.stderr):
        for secret in SECRETS:
            assert not [form for form in forms(secret) if form[4:-4] in text]
        assert PROMPT not in text
    assert "it said ***" in files["executor.log"]


def test_only_the_owner_may_read_it(home: Path, bundle: Bundle) -> None:
    bundle()

    assert stat.S_IMODE((home.parent / "report.tar.gz").stat().st_mode) == 0o600


def test_a_file_that_exists_is_not_overwritten(home: Path, bundle: Bundle) -> None:
    file = home.parent / "report.tar.gz"
    file.write_text("mine")

    done = bundle()

    assert done.returncode == ExitStatus.FAILURE
    assert "exists already" in done.stderr
    assert file.read_text() == "mine"


def test_what_cannot_be_had_is_told_and_costs_nothing_else(home: Path, bundle: Bundle) -> None:
    (home / "state.db").write_text("something else" * 100)
    (home / "logs" / "executor.log").unlink()
    with (home / "config.env").open("a") as file:
        file.write("LOCAL_QUEUE_LIMIT=many\n")

    done = bundle()

    files = files_in(home.parent / "report.tar.gz")
    assert "not a database" in json.loads(files["state.json"])["error"]
    assert len(json.loads(files["config.json"])["problems"]) == 1
    assert files["executor.log"] == ""
    assert "not a database" in done.stdout


def test_without_readable_settings_there_is_no_archive(home: Path, bundle: Bundle) -> None:
    (home / "config.env").write_bytes(b"\xff")

    done = bundle()

    assert done.returncode == ExitStatus.USAGE
    assert str(home / "config.env") in done.stderr
    assert not (home.parent / "report.tar.gz").exists()
