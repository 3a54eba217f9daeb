"""What a receiver's answer means, and how long it is left alone."""

from __future__ import annotations

import email.utils
from datetime import UTC, datetime, timedelta
from itertools import islice

import pytest

from executor.modes.docker.receiver_client import (
    MAX_RETRY_AFTER_S,
    Reply,
    origin_of,
    read_retry_after,
    retry_delays,
)


@pytest.mark.parametrize(
    ("status", "means"),
    [
        (200, "done"),
        (204, "done"),
        (299, "done"),
        (301, "refused"),
        (304, "refused"),
        (400, "refused"),
        (401, "refused"),
        (404, "refused"),
        (422, "refused"),
        (408, "later"),
        (425, "later"),
        (429, "later"),
        (500, "later"),
        (503, "later"),
        (599, "later"),
        (410, "gone"),
    ],
)
def test_a_status_says_whether_to_try_again(status: int, means: str) -> None:
    assert Reply(status).means == means


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("17", 17.0),
        ("0", 0.0),
        ("-5", 0.0),
        ("1e9", MAX_RETRY_AFTER_S),
        ("inf", MAX_RETRY_AFTER_S),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Fri, 01 Jan 2100 00:00:00 GMT", MAX_RETRY_AFTER_S),
    ],
)
def test_the_time_that_a_receiver_asks_for_is_read(
    header: str | None, seconds: float | None
) -> None:
    assert read_retry_after(header) == seconds


def test_a_date_is_as_good_as_seconds() -> None:
    header = email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=600), usegmt=True)
    read = read_retry_after(header)
    assert read is not None
    assert 500 < read <= 600


def test_pauses_grow_to_their_limit_and_no_further() -> None:
    many = [list(islice(retry_delays(1.0, 8.0), 6)) for _ in range(200)]
    longest = [max(delays[number] for delays in many) for number in range(6)]
    assert all(longest[number] <= limit for number, limit in enumerate([1, 2, 4, 8, 8, 8]))
    assert longest[5] > 4


def test_messages_show_no_more_than_the_origin() -> None:
    assert origin_of("https://user:pw@host:8443/hook/secret?key=1") == "https://host:8443"
    assert origin_of("no address") == "the receiver"


@pytest.mark.parametrize(
    ("body", "value"), [(b'{"a": 1}', {"a": 1}), (b"", None), (b"<html>", None), (b"\xff", None)]
)
def test_a_body_that_is_no_json_is_nothing(body: bytes, value: object) -> None:
    assert Reply(200, body).json() == value


@pytest.mark.parametrize("body", [b"", b"no", b"\xff", b"[" * 100_000, b"[" * 100 + b"]" * 100])
def test_what_is_no_json_or_nests_too_deep_says_nothing(body: bytes) -> None:
    assert Reply(200, body).json() is None


def test_an_answer_is_read_as_json() -> None:
    assert Reply(200, b'{"answer": ["a"]}').json() == {"answer": ["a"]}
