"""What an agent prints of a run's secrets is masked before it leaves the executor."""

from __future__ import annotations

import asyncio
import base64
import json
import sqlite3
import subprocess
import sys
import tarfile
from pathlib import Path
from urllib.parse import quote

from scripts.scripted_model import ScriptedModel
from shared.redaction import MASK
from tests.fakes.model import error_step, reaching, scenario, step, text_step
from tests.fakes.processes import MODULE, ROOT, plain_environ, system
from tests.fakes.runs import FinishedRun

API_KEY = "sk-Zq8-of-the-request/2718+281828"
GIT_TOKEN = 'Zq8 "of the clone"/3141+592653'


def forms(secret: str) -> dict[str, str]:
    return {
        "plain": secret,
        "base64": base64.b64encode(secret.encode()).decode(),
        "url": quote(secret, safe=""),
        "json": json.dumps(secret)[1:-1],
    }


FORMS = [form for secret in (API_KEY, GIT_TOKEN) for form in forms(secret).values()]
SAYING = " | ".join(FORMS)


def shown(text: str) -> list[str]:
    """The forms that can still be read in *text*, as it stands or once more inside of JSON."""
    # The last characters of Base64 also hold bits of what follows, and may stay.
    cores = [form.rstrip("=")[:-1] for form in FORMS]
    return [core for core in cores if core in text or json.dumps(core)[1:-1] in text]


def database(path: Path) -> str:
    """Every value of every table."""
    with sqlite3.connect(path) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        tables = [name for (name,) in names]
        rows = [connection.execute(f'SELECT * FROM "{name}"').fetchall() for name in tables]
    connection.close()
    return str(rows) + "\n".join(str(value) for table in rows for row in table for value in row)


def told_to_the_operator(home: Path, report: Path) -> list[str]:
    """What the commands say about the executor in *home*, and all that is in a report about it."""
    nobody = {
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:1",
        "WEGENT_BACKEND_URL": "http://127.0.0.1:1",
    }
    env = plain_environ(home / "user", WEGENT_EXECUTOR_HOME=str(home), **nobody)
    said = []
    for typed in (["status", "--json"], ["tasks", "--json"], ["bundle", "-o", str(report)]):
        command = [sys.executable, *MODULE, *typed]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said += [done.stdout, done.stderr]
    with tarfile.open(report) as archive:
        files = [archive.extractfile(member) for member in archive.getmembers()]
        return [*said, *(file.read().decode() for file in files if file is not None)]


async def test_no_form_of_a_secret_reaches_events_streams_databases_logs_or_reports(
    tmp_path: Path,
) -> None:
    printing = "cat <<'END'\n" + "\n".join(FORMS) + "\nEND"
    scenarios = [
        scenario(
            step(
                {"thinking": f"I know {SAYING}."},
                {"text": f"Here: {SAYING}."},
                {"tool": "Bash", "input": {"command": printing}},
                delta_chars=3,
            ),
            step({"text": f"That was: {SAYING}."}, delta_chars=7),
            name="prints",
            prompt="print",
        ),
        scenario(error_step(400, message=f"wrong: {SAYING}"), name="fails", prompt="fail"),
        scenario(text_step("hello"), name="greets"),
    ]
    async with (
        ScriptedModel(scenarios) as model,
        system(tmp_path, LOG_LEVEL="DEBUG") as (manager, executor),
    ):
        config = {"git_token": GIT_TOKEN, **reaching(model.url, API_KEY)}
        printed = await manager.run("print it", config)
        failed = await manager.run(f"fail with {API_KEY}", config)
        # Another run's text is not shaped by the secrets of these.
        other = await manager.run("greet", reaching(model.url))
        report = await asyncio.to_thread(
            told_to_the_operator, executor.home, tmp_path / "report.tar.gz"
        )
        logs = [executor.log, executor.program.output, manager.program.output]
        logs += [path.read_text() for path in (manager.home / "logs").iterdir()]
    assert (printed.verdict, failed.verdict) == (("completed", None), ("failed", "api_error"))
    assert other.answer == "hello"
    _check_texts(printed)
    told = [run.events for run in (printed, failed)]
    assert shown(json.dumps(told, ensure_ascii=False)) == []
    assert MASK in failed.error
    assert shown(json.dumps([printed.task["result"], failed.error], ensure_ascii=False)) == []
    assert shown("\n".join(logs)) == []
    assert any(printed.task["session_id"] in text for text in report)
    assert shown("\n".join(report)) == []
    events = database(manager.home / "manager.db").replace(f"fail with {API_KEY}", "")
    assert shown(events) == []  # but for the prompt, which is the user's own text
    state = database(executor.home / "state.db")
    assert shown(state) == []


def _check_texts(run: FinishedRun) -> None:
    [done] = run.data("llm.done")
    chunks = run.data("llm.stream")
    assert done["content"] == "".join(chunk["content"] for chunk in chunks)
    position = 0
    for chunk in chunks:
        assert chunk["offset"] == position
        position += len(chunk["content"])
    assert done["content"].startswith(f"Here: {MASK} | {MASK}")
    assert done["content"].count(MASK) == 2 * len(FORMS)
    [result] = run.data("llm.tool_result")
    assert result["result"].count(MASK) == len(FORMS)
