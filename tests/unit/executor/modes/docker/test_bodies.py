"""Bodies of requests: read where they hold nobody up."""

from __future__ import annotations

import json
import threading

import pytest
from fastapi import Request
from starlette.types import Message

from executor.modes.docker.bodies import LARGE_BYTES, InvalidJson, read_body


def request_with(body: bytes) -> Request:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


@pytest.mark.parametrize(("length", "on_the_loop"), [(10, True), (LARGE_BYTES, False)])
async def test_a_large_body_is_read_off_the_event_loop(length: int, on_the_loop: bool) -> None:
    thread = await read_body(
        request_with(json.dumps("x" * length).encode()), lambda _: threading.current_thread()
    )

    assert (thread is threading.current_thread()) is on_the_loop


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"9" * 5000])
async def test_what_is_no_json_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(InvalidJson):
        await read_body(request_with(body), lambda raw: raw)
