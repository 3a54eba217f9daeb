"""JSON on the wire."""

from __future__ import annotations

import json

import pytest

from shared.protocol import wire_json


def test_text_is_compact_and_not_escaped() -> None:
    assert wire_json.dumps({"a": ["中", 1]}, separators=(", ", ": ")) == '{"a":["中",1]}'


@pytest.mark.parametrize("half", ["\ud800", "\udc00", "a\udfffb\ud83d"])
def test_half_a_character_becomes_one_that_can_be_sent(half: str) -> None:
    sent = wire_json.dumps({"text": f"中{half}😀"}).encode()
    text = json.loads(sent)["text"]
    assert text[0] == "中"
    assert text[-1] == "😀"
    assert "\ufffd" in text


def test_two_halves_of_a_character_become_the_character() -> None:
    assert wire_json.loads(wire_json.dumps(["\ud83d\ude00"])) == ["😀"]


def test_what_is_no_number_becomes_null_in_both_directions() -> None:
    assert wire_json.dumps({"a": [float("nan"), 1.5, "中"]}) == '{"a":[null,1.5,"中"]}'
    assert wire_json.loads('{"a": [NaN, -Infinity, 1.5]}') == {"a": [None, None, 1.5]}
