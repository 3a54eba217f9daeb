from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from scripts.scripted_model import main

SCRIPT = Path(__file__).parents[3] / "scripts" / "scripted_model.py"
HELLO = {"name": "hello", "match": {"prompt": "hi"}, "steps": [{"content": [{"text": "Hello"}]}]}


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(SCRIPT),
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(30):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_it_prints_its_url_first_serves_and_stops_on_sigterm(tmp_path: Path) -> None:
    (tmp_path / "hello.json").write_text(json.dumps(HELLO), encoding="utf-8")
    async with running("--scenario-dir", str(tmp_path), "--verbose") as process:
        assert process.stdout
        first = (await process.stdout.readline()).decode()
        banner = (await process.stdout.readline()).decode()
        assert first.startswith("scripted model listening on http://127.0.0.1:")
        assert "no model is asked" in banner
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        async with aiohttp.ClientSession() as http:
            url = first.split()[-1]
            headers = {"x-api-key": "sk-not-to-be-logged"}
            async with http.post(f"{url}/v1/messages", json=body, headers=headers) as response:
                assert (await response.json())["content"][0]["text"] == "Hello"
        process.send_signal(signal.SIGTERM)
        _, errors = await process.communicate()
        assert process.returncode == 0
        assert b"'hello' step 0: answered" in errors
        assert b"sk-not-to-be-logged" not in errors


def test_a_broken_scenario_file_ends_with_status_2_and_the_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "broken.json"
    path.write_text(json.dumps({**HELLO, "steps": [{}]}), encoding="utf-8")
    assert main(["--scenario", str(path)]) == 2
    assert f"{path}: steps[0].content: Field required" in capsys.readouterr().err


async def test_a_port_that_is_taken_ends_with_status_1() -> None:
    async with running() as first:
        assert first.stdout
        port = (await first.stdout.readline()).decode().strip().rpartition(":")[2]
        async with running("--port", port) as second:
            _, errors = await second.communicate()
            assert second.returncode == 1
            assert f"cannot listen on 127.0.0.1:{port}".encode() in errors
