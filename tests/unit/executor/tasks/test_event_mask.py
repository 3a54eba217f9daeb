"""No event shows a secret, however it is spread; what is told stays consistent."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.tasks.event_mask import EventMask
from shared.protocol.events import AgentEvent, EventType, Source

SECRET = "sk-secret-of-the-run-27182818"
MAIN = Source("main")


def delta(content: str, offset: int = 0, message_id: str = "m") -> AgentEvent:
    data = {"message_id": message_id, "content": content, "offset": offset}
    return AgentEvent(EventType.LLM_STREAM, data, MAIN)


def done(content: str, message_id: str = "m") -> AgentEvent:
    data = {"message_id": message_id, "content": content, "usage": None}
    return AgentEvent(EventType.LLM_DONE, data, MAIN)


def tell(mask: EventMask, pieces: list[str]) -> tuple[list[AgentEvent], str]:
    """A whole message; its chunks and its final content."""
    told: list[AgentEvent] = []
    for piece in pieces:
        told += mask.mask(delta(piece))
    *chunks, last = [*told, *mask.mask(done("".join(pieces)))]
    return chunks, last.data["content"]


@pytest.mark.parametrize("cut", range(1, len(SECRET)))
def test_a_secret_spread_over_two_chunks_is_masked(cut: int) -> None:
    chunks, content = tell(
        EventMask([SECRET]), [f"it is {SECRET[:cut]}", f"{SECRET[cut:]}, keep it"]
    )
    assert content == "it is ***, keep it"
    assert "".join(chunk.data["content"] for chunk in chunks) == content


def test_what_only_begins_like_a_secret_is_told_in_full() -> None:
    chunks, content = tell(EventMask([SECRET]), ["sk-sec", "ond ", "s"])
    assert content == "sk-second s"
    assert [chunk.data["offset"] for chunk in chunks] == [0, 10]


def test_ordinary_text_is_told_at_once() -> None:
    (chunk,) = EventMask([SECRET]).mask(delta("hello wor"))
    assert chunk.data == {"message_id": "m", "content": "hello wor", "offset": 0}


@given(st.lists(st.sampled_from(["abcabcabd", "abcabc", "abcabcab", "bd", "c", "cabcabda", "x "])))
def test_chunks_join_to_the_content_and_show_no_secret(pieces: list[str]) -> None:
    secrets = ["abcabcabd", "cabcabda"]
    chunks, content = tell(EventMask(secrets), pieces)
    assert "".join(chunk.data["content"] for chunk in chunks) == content
    assert all(secret not in content for secret in secrets)
    lengths = [len(chunk.data["content"]) for chunk in chunks]
    offsets = [chunk.data["offset"] for chunk in chunks]
    assert offsets == [sum(lengths[:n]) for n in range(len(lengths))]


def test_of_two_secrets_the_longer_leaves_no_rest() -> None:
    _, content = tell(EventMask(["12345678", "12345678-and-more"]), ["12345678", "-and-more"])
    assert content == "***"


@pytest.mark.parametrize(
    "shown",
    [SECRET, base64.b64encode(SECRET.encode()).decode().rstrip("=")[:-1]],
)
def test_a_tools_result_shows_none_in_any_form(shown: str) -> None:
    data: dict[str, Any] = {"tool_id": "t", "result": f"KEY={shown}\n", "is_error": False}
    (event,) = EventMask([SECRET]).mask(AgentEvent(EventType.TOOL_RESULT, data, MAIN))
    assert event.data == {"tool_id": "t", "result": "KEY=***\n", "is_error": False}


def test_secrets_deep_in_arguments_and_after_a_scheme_are_masked() -> None:
    arguments = {"env": [{"A": f"curl -H {SECRET}"}], "n": 1}
    call = AgentEvent(EventType.TOOL_CALL, {"tool_id": "t", "arguments": arguments}, MAIN)
    (event,) = EventMask([f"Bearer {SECRET}"]).mask(call)
    assert event.data["arguments"] == {"env": [{"A": "curl -H ***"}], "n": 1}


def test_what_was_held_back_comes_before_what_follows() -> None:
    mask = EventMask([SECRET])
    assert mask.mask(delta("sk-")) == []
    held, call = mask.mask(AgentEvent(EventType.TOOL_CALL, {"tool_id": "t"}, MAIN))
    assert (held.data["content"], held.data["offset"], held.source) == ("sk-", 0, MAIN)
    assert call.type == EventType.TOOL_CALL


def test_the_verdict_releases_what_is_held_of_every_source() -> None:
    mask = EventMask([SECRET])
    mask.mask(delta("sk-"))
    held, verdict = mask.mask(AgentEvent(EventType.CANCELLED, {"reason": SECRET}))
    assert (held.data["content"], verdict.data["reason"]) == ("sk-", "***")


def test_without_secrets_events_pass_as_they_are() -> None:
    event = delta("x")
    assert EventMask(["", "short"]).mask(event) == [event]
