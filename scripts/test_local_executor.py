"""Checks a backend and its local executor from outside: is one online, does it do a task?

    python scripts/test_local_executor.py
    python scripts/test_local_executor.py --prompt "Write a hello world function in Python"
    python scripts/test_local_executor.py --prompt "Ask me which colour I like" --answer blue
    python scripts/test_local_executor.py --skip-dispatch

The backend is an executor manager; its address is ``--backend-url`` or ``WEGENT_BACKEND_URL``. The
API token is ``--token``, ``WEGENT_API_TOKEN``, or the file that a manager on this machine keeps.

Exit status: 0 completed (or online, with ``--skip-dispatch``); 1 failed or cancelled; 2 wrong
arguments or no answer from the backend; 3 no executor online; 4 not finished in time.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

if not __package__:  # started as a file: the repository's root is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.answering import GivenLines, Lines, TypedLines
from scripts.follow import follow
from scripts.manager_client import ApiError, ManagerClient

DEFAULT_URL = "http://127.0.0.1:8001"
PROMPT = "Say in one sentence which folder you work in and what is in it."

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_OFFLINE = 3
EXIT_TIMEOUT = 4


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Check that a local executor is online, give it a task, follow it.",
        epilog="Exit status: 0 completed, 1 failed, 2 usage, 3 no executor online, 4 timeout.",
    )
    parser.add_argument("--prompt", default=PROMPT, help="what to ask")
    parser.add_argument(
        "--backend-url",
        default=os.environ.get("WEGENT_BACKEND_URL") or DEFAULT_URL,
        help="address of the executor manager (default: WEGENT_BACKEND_URL, or %(default)s)",
    )
    parser.add_argument(
        "--timeout", type=_seconds, default=60.0, help="seconds to follow the task (default: 60)"
    )
    parser.add_argument(
        "--answer",
        action="append",
        metavar="LINE",
        help="answer what the agent asks, as one would type it: an option, words, yes, no and a "
        "reason; once for each question (default: ask at the terminal)",
    )
    parser.add_argument("--skip-dispatch", action="store_true", help="only check who is online")
    parser.add_argument(
        "--token", help="API token; better in WEGENT_API_TOKEN, where `ps` does not show it"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the check and return the exit status."""
    args = build_parser().parse_args(argv)
    console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())
    token = args.token or os.environ.get("WEGENT_API_TOKEN") or _own_managers_token()
    if not token:
        console.print(
            "no API token: give --token, or set WEGENT_API_TOKEN to the content of api-token in "
            "the manager's home"
        )
        return EXIT_USAGE
    try:
        return asyncio.run(check(console, args, token))
    except ApiError as exc:
        console.print(str(exc), markup=False)
        return EXIT_USAGE
    except KeyboardInterrupt:
        return 130


async def check(console: Console, args: argparse.Namespace, token: str) -> int:
    """Look who is online; unless told not to, send a task and follow it."""
    async with ManagerClient(args.backend_url, token) as client:
        online = [node for node in await client.nodes() if node["status"] == "online"]
        for node in online:
            console.print(f"online: {node['name']} ({node['node_id']})", markup=False)
        if not online:
            console.print(f"no executor is online at {args.backend_url}", markup=False)
            return EXIT_OFFLINE
        if args.skip_dispatch:
            return 0
        task_id = (await client.create_task(args.prompt, {}))["task_id"]
        console.print(f"task: {task_id}", markup=False)
        try:
            async with asyncio.timeout(args.timeout):
                outcome = await follow(client, task_id, console, answers(console, args.answer))
        except TimeoutError:
            await client.cancel(task_id, "test_local_executor.py: timeout")
            console.print(f"not finished within {args.timeout:g} s; cancelled", markup=False)
            return EXIT_TIMEOUT
        return report(console, outcome)


def answers(console: Console, given: list[str] | None) -> Lines | None:
    """Where answers come from; ``None``: the agent's questions are left to others."""
    if given is not None:
        return GivenLines(given)
    return TypedLines() if console.is_terminal and sys.stdin.isatty() else None


def report(console: Console, outcome: dict[str, Any]) -> int:
    """Say how it ended."""
    if outcome["status"] == "completed":
        console.print(f"completed: {outcome.get('result')}", markup=False)
        return 0
    said = (outcome["status"], outcome.get("error_code"), outcome.get("error"))
    console.print(": ".join(part for part in said if part), markup=False)
    return EXIT_FAILED


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be greater than 0")
    return value


def _own_managers_token() -> str | None:
    home = os.environ.get("MANAGER_HOME") or Path.home() / ".wegent-executor-manager"
    try:
        return (Path(home) / "api-token").read_text().strip()
    except OSError:
        return None


if __name__ == "__main__":
    raise SystemExit(main())
