"""The examples of docs/http.md are what an executor answers."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.fakes.docker_mode import DockerClient, docker_process

ANYTHING = "…"


def examples(page: str) -> Iterator[tuple[str, str]]:
    """Every command of the page, with what it answers there."""
    for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, answer = part.partition("\n")
            yield command, answer.strip()


async def curl(client: DockerClient, command: str) -> str:
    """What the command would print; it is not run, since there need not be a curl."""
    words = shlex.split(command.replace("$EXECUTOR", ""))
    assert words[0] == "curl"
    headers: dict[str, str] = {}
    method, path, body = "GET", "", None
    arguments = iter(words[1:])
    for word in arguments:
        match word:
            case "-s" | "-sN":
                pass
            case "-X":
                method = next(arguments)
            case "-H":
                name, _, value = next(arguments).partition(": ")
                headers[name] = value
            case "-d":
                method, body = "POST", next(arguments)
            case _:
                path = word
    async with client.http.request(method, path, headers=headers, data=body) as response:
        return await response.text()


def same(shown: Any, real: Any) -> bool:
    if shown == ANYTHING:
        return True
    if isinstance(shown, dict) and isinstance(real, dict):
        return shown.keys() == real.keys() and all(same(shown[k], real[k]) for k in shown)
    return bool(shown == real)


async def test_every_example_is_answered_as_it_is_shown(
    tmp_path: Path, repository_root: Path
) -> None:
    page = (repository_root / "docs" / "http.md").read_text(encoding="utf-8")
    found = list(examples(page))
    assert len(found) >= 8
    async with docker_process(tmp_path) as executor:
        for command, shown in found:
            real = await curl(executor.client, command)
            if shown.startswith("{"):
                assert same(json.loads(shown), json.loads(real)), f"{command}\n{real}"
                continue
            pieces = [piece.strip() for piece in shown.split(ANYTHING)]
            assert real.startswith(pieces[0])
            assert real.strip().endswith(pieces[-1])
