"""Bodies of requests: read where they hold nobody up."""

from __future__ import annotations

import json
import threading

import pytest
from fastapi import Request
from starlette.types import Message

from executor.modes.docker.bodies import LARGE_BYTES, InvalidJson, read_body, read_model
from executor.modes.docker.views import Answer, CancelRun
from shared.errors import ProtocolError


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


async def test_what_is_no_number_in_json_says_nothing() -> None:
    assert await read_body(request_with(b"[NaN, -Infinity, 1.5]"), list) == [None, None, 1.5]  # type: ignore[arg-type] # a list


@pytest.mark.parametrize("body", [b"", b"null", b"{}"])
async def test_a_body_that_may_be_left_out_says_nothing_then(body: bytes) -> None:
    assert await read_model(request_with(body), CancelRun, empty=CancelRun()) == CancelRun()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"null", "the request must be an object"),
        (b'["hunter2"]', "the request must be an object"),
        (b'{"request_id": "r"}', "decision: Field required"),
        (b'{"request_id": "r", "decision": "hunter2"}', "decision: Input should be 'allow', "),
        (
            b'{"request_id": "r", "decision": "answer", "answers": {"1": %s1%s}}'
            % (b"[" * 80, b"]" * 80),
            "the request must not nest deeper than 64",
        ),
    ],
)
async def test_a_body_of_another_shape_is_refused_by_its_fields(body: bytes, message: str) -> None:
    with pytest.raises(ProtocolError) as refused:
        await read_model(request_with(body), Answer)
    assert refused.value.message.startswith(message)
    assert "hunter2" not in str(refused.value)
