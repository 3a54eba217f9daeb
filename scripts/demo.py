"""`make demo`: a coding task from end to end, on real parts, with what happens shown live.

Starts the executor manager and a local executor as two processes of their own, makes a small git
repository with a bug and a failing test, and sends a task about it over Socket.IO. The agent is
the real ``claude`` CLI. With ``ANTHROPIC_API_KEY`` or ``ANTHROPIC_AUTH_TOKEN`` in the environment
it asks the real API; without, a local stand-in that plays ``scenarios/demo.json``.

``PROMPT`` and ``REPO`` (a path or a URL) in the environment run a task of one's own.
Exit status: 0 when the run completed, 1 when it did not or could not be started.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.rule import Rule
from rich.syntax import Syntax
from rich.terminal_theme import MONOKAI

if not __package__:  # started as a file: the repository's root is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.follow import follow
from scripts.manager_client import ApiError, ManagerClient
from scripts.scripted_model import ScriptedModel
from scripts.scripted_scenario import load_scenarios

ROOT = Path(__file__).resolve().parents[1]
PROMPT = (
    "The tests of this repository fail. Find the bug in divide_evenly, repair it, "
    "and show that the tests pass."
)
LISTENING = "executor manager listening on "
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0


class DemoError(Exception):
    """The demo cannot go on; the text says why."""


@dataclass(frozen=True)
class Task:
    """What is to be done, on which repository."""

    prompt: str
    repository: str | None
    local: bool
    """Whether the repository is a folder of this machine."""
    made_here: bool = False
    """Whether it is the demo's own repository, still to be made."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo and return the exit status."""
    parser = argparse.ArgumentParser(description="Run a coding task from end to end.")
    parser.add_argument("--record", type=Path, metavar="FILE", help="keep a picture of it (SVG)")
    record: Path | None = parser.parse_args(argv).record
    if record is not None:
        console = Console(highlight=False, record=True, width=120, force_terminal=False)
    else:
        console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    status = run(console)
    if record is not None:
        save_picture(console, record)
    return status


def run(console: Console) -> int:
    """Run the demo on *console*; whatever stops it is said there."""
    try:
        return asyncio.run(demo(console, os.environ))
    except (DemoError, ApiError) as exc:
        console.print(f"[bold red]demo failed:[/] {exc}", markup=True)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted")
        return 130


async def demo(console: Console, environ: Mapping[str, str]) -> int:
    """Run one task and show it; returns the exit status."""
    place = Path(tempfile.mkdtemp(prefix="wegent-demo-"))
    async with AsyncExitStack() as stack:
        task = choose_task(place, environ)
        if task.made_here:
            await make_repository(place / "calculator")
        model_env = await stack.enter_async_context(model(console, environ))
        url = await stack.enter_async_context(manager(place / "manager", environ))
        client = await stack.enter_async_context(
            ManagerClient(url, read_token(place / "manager" / "api-token"))
        )
        executor_env = {
            **environ,
            **model_env,
            "EXECUTOR_MODE": "local",
            "WEGENT_EXECUTOR_HOME": str(place / "executor"),
            "WEGENT_BACKEND_URL": url,
            "WEGENT_AUTH_TOKEN": read_token(place / "manager" / "executor-token"),
            "LOCAL_ALLOW_LOCAL_REPOSITORIES": "true" if task.local else "false",
            "LOCAL_SHUTDOWN_GRACE_SECONDS": "0",  # whoever interrupts the demo is done with it
        }
        console.print(f"manager    {url}  (API at {url}/docs)")
        stderr_path = place / "executor.stderr"
        executor = await stack.enter_async_context(
            process("executor.main", executor_env, stderr_path)
        )
        node = await online(client, executor, stderr_path)
        console.print(f"executor   {node['name']}, process {executor.pid}")
        console.print(Rule())
        began = time.monotonic()
        config = {"repo_url": task.repository} if task.repository else {}
        created = await client.create_task(task.prompt, config)
        console.print(f"task       {task.prompt}")
        outcome = await follow(client, created["task_id"], console)
        return await summary(console, place, outcome, time.monotonic() - began)


def choose_task(place: Path, environ: Mapping[str, str]) -> Task:
    """The user's own task, or the one of the demo."""
    prompt, repo = environ.get("PROMPT") or "", environ.get("REPO") or ""
    if repo and "://" not in repo and Path(repo).expanduser().is_dir():
        return Task(prompt or PROMPT, Path(repo).expanduser().resolve().as_uri(), local=True)
    if repo and ":" not in repo:
        raise DemoError(f"REPO is {repo!r}, which is neither a folder of this machine nor a URL")
    if repo:
        return Task(prompt or PROMPT, repo, local=repo.startswith("file:"))
    if prompt:
        return Task(prompt, None, local=False)
    return Task(PROMPT, (place / "calculator").as_uri(), local=True, made_here=True)


async def make_repository(repository: Path) -> None:
    """The demo's small repository, with a bug and a failing test."""
    await asyncio.to_thread(shutil.copytree, ROOT / "scripts" / "demo_repository", repository)
    who = ("-c", "user.name=Demo", "-c", "user.email=demo@localhost")
    await git(repository, "init", "--quiet", "--initial-branch=main")
    await git(repository, "add", "--all")
    await git(repository, *who, "commit", "--quiet", "--message=A calculator, with a bug in it")


@asynccontextmanager
async def model(console: Console, environ: Mapping[str, str]) -> AsyncIterator[dict[str, str]]:
    """Say who answers, and give the executor's variables for it."""
    if environ.get("ANTHROPIC_API_KEY") or environ.get("ANTHROPIC_AUTH_TOKEN"):
        console.print("model      the real API, with the key of the environment")
        yield {}
        return
    scenarios = load_scenarios([ROOT / "scripts" / "scenarios" / "demo.json"])
    async with ScriptedModel(scenarios) as scripted:
        console.print(
            "model      [bold yellow]SCRIPTED[/]: no model is asked, the answers come from "
            "scripts/scenarios/demo.json.\n"
            "           Set ANTHROPIC_API_KEY for a real one. Tools, edits and tests are real.",
            markup=True,
        )
        yield {"ANTHROPIC_BASE_URL": scripted.url, "ANTHROPIC_API_KEY": "scripted-model-key"}


@asynccontextmanager
async def manager(home: Path, environ: Mapping[str, str]) -> AsyncIterator[str]:
    """The executor manager as a process of its own; gives its address."""
    env = {**environ, "MANAGER_HOME": str(home), "MANAGER_PORT": "0"}
    stderr_path = home.with_suffix(".stderr")
    async with process("executor_manager.main", env, stderr_path) as running:
        yield await address(running, stderr_path)


async def address(manager: asyncio.subprocess.Process, stderr_path: Path) -> str:
    """Wait until the manager says where it listens."""
    assert manager.stdout is not None
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            async for raw in manager.stdout:
                if (line := raw.decode().strip()).startswith(LISTENING):
                    return line.removeprefix(LISTENING)
    except TimeoutError:
        pass
    raise DemoError(f"the executor manager did not start:\n{last_words(stderr_path)}")


@asynccontextmanager
async def process(
    module: str, env: Mapping[str, str], stderr_path: Path
) -> AsyncIterator[asyncio.subprocess.Process]:
    """One of our programs; told to stop at the end, and made to when it does not."""
    with stderr_path.open("wb") as stderr:
        running = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            cwd=ROOT,
            env=dict(env),
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await running.wait()
        except TimeoutError:
            running.kill()
            await running.wait()


async def online(
    client: ManagerClient, executor: asyncio.subprocess.Process, stderr_path: Path
) -> dict[str, Any]:
    """Wait until the manager knows the executor."""
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while executor.returncode is None:
                nodes = await client.nodes()
                if nodes:
                    return nodes[0]
                await asyncio.sleep(0.05)
    except TimeoutError:
        pass
    raise DemoError(f"the executor did not register:\n{last_words(stderr_path)}")


async def summary(console: Console, place: Path, outcome: dict[str, Any], seconds: float) -> int:
    """Show what came out: the diff, the answer, and where everything lies."""
    workspace = outcome.get("workspace") or {}
    checkout = Path(workspace["path"]) if workspace.get("path") else None
    if checkout is not None and (checkout / ".git").exists():
        diff = await git(checkout, "diff", "--no-ext-diff", "HEAD")
        if diff.strip():
            console.print(Rule("diff"))
            console.print(Syntax(diff, "diff", background_color="default"))
    completed = outcome["status"] == "completed"
    if completed:
        console.print(Rule("answer"))
        console.print(outcome.get("result") or "", markup=False)
    console.print(Rule())
    verdict = outcome["status"]
    if not completed:
        verdict += f": {outcome.get('error_code')}: {outcome.get('error')}"
    console.print(f"verdict    {verdict}", markup=False)
    console.print(f"duration   {seconds:.1f} s")
    console.print(f"workspace  {checkout or place / 'executor' / 'workspace'}")
    console.print(f"logs       {place / 'executor' / 'logs' / 'executor.log'}")
    console.print(f"           {place / 'manager' / 'logs' / 'manager.log'}")
    return 0 if completed else 1


def save_picture(console: Console, path: Path) -> None:
    """What was shown, as an SVG that asks nobody for a font."""
    plain = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    console.save_svg(str(path), title="make demo", theme=MONOKAI, code_format=plain)


def read_token(path: Path) -> str:
    """A token that the manager made at its first start."""
    return path.read_text().strip()


def last_words(stderr_path: Path) -> str:
    """The end of what a process printed."""
    return stderr_path.read_text(errors="replace")[-2000:]


async def git(cwd: Path, *arguments: str) -> str:
    """Run git and return what it prints."""
    running = await asyncio.create_subprocess_exec(
        "git",
        *arguments,
        cwd=cwd,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await running.communicate()
    if running.returncode != 0:
        raise DemoError(f"git {arguments[0]} failed: {err.decode().strip()}")
    return out.decode()


if __name__ == "__main__":
    raise SystemExit(main())
