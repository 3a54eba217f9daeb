from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from executor.delivery.bounds import MAX_CHUNK_CHARS, MAX_DATA_BYTES, bound, split_text
from shared.protocol.local import MAX_EVENT_BYTES


def size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


def test_a_small_event_is_left_as_it_is() -> None:
    data = {"tool_name": "Read", "arguments": {"path": "a.py"}, "list": [1, None, True]}
    assert bound(data) == data


def test_a_long_result_is_cut_and_says_how_long_it_was() -> None:
    bounded = bound({"tool_id": "t", "result": "x" * 1_000_000})
    assert bounded["tool_id"] == "t"
    assert bounded["truncated"] is True
    assert bounded["full_length"] == 1_000_000
    assert set(bounded["result"]) == {"x"}
    assert size(bounded) <= MAX_DATA_BYTES


def test_a_string_deep_inside_is_marked_beside_itself() -> None:
    bounded = bound({"arguments": {"path": "a", "content": "é" * 500_000}})
    inner = bounded["arguments"]
    assert (inner["path"], inner["truncated"], inner["full_length"]) == ("a", True, 500_000)


def test_a_long_list_keeps_its_beginning() -> None:
    files = [{"path": f"file-{n}", "status": "added"} for n in range(50_000)]
    bounded = bound({"files": files})
    assert bounded["files"] == files[: len(bounded["files"])]
    assert bounded["full_length"] == 50_000
    assert len(bounded["files"]) > 1_000


def test_what_utf_8_cannot_carry_is_replaced() -> None:
    bounded = bound({"result": "a\ud83d", "\udc00": ["\ud800"]})
    assert json.dumps(bounded, ensure_ascii=False).encode()
    assert bounded["result"] == "a?"


def test_an_object_of_countless_small_parts_still_fits() -> None:
    assert size(bound({f"key-{n}": n for n in range(100_000)})) <= MAX_DATA_BYTES


def test_an_object_of_countless_parts_keeps_its_first_and_says_so() -> None:
    bounded = bound(
        {"tool_id": "t", "arguments": {f"key-{n}": n for n in range(100_000)}, "is_error": False}
    )
    assert (bounded["tool_id"], bounded["is_error"]) == ("t", False)
    assert bounded["arguments"]["key-0"] == 0
    assert bounded["arguments"]["truncated"] is True
    assert bounded["arguments"]["full_length"] == 100_000


def test_what_is_small_is_kept_whole_beside_what_is_large() -> None:
    data = {"a": "x" * 1_000_000, "b": "y" * 50_000, "c": ["z" * 100] * 10}
    bounded = bound(data)
    assert (bounded["b"], bounded["c"]) == (data["b"], data["c"])
    assert len(bounded["a"]) > 150_000


def test_a_number_that_was_cut_before_stays_the_full_length() -> None:
    files = [{"path": "x" * 200} for _ in range(2_000)]
    bounded = bound({"files": files, "truncated": True, "full_length": 70_000})
    assert len(bounded["files"]) < 2_000
    assert bounded["full_length"] == 70_000


@pytest.mark.parametrize("depth", [300, 2_000])
def test_an_abyss_is_cut_at_a_depth_that_everybody_can_read(depth: int) -> None:
    value: Any = "bottom"
    for _ in range(depth):
        value = {"down": [value]}
    bounded = bound({"tool_id": "t", "arguments": value})
    assert bounded["tool_id"] == "t"
    assert bounded["arguments"]["down"]
    assert TypeAdapter(Any).dump_json(bounded)


def test_large_parts_are_looked_at_once() -> None:
    """The work is bounded by what is kept, not by what came: events are bounded on the loop."""

    class Counted(dict[str, Any]):
        seen = 0

        def items(self) -> Any:
            for item in super().items():
                Counted.seen += 1
                yield item

    bound({"arguments": Counted({f"key-{n}": n for n in range(1_000_000)})})
    assert Counted.seen < 50_000


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(
        st.text(max_size=20).map(lambda text: text * 20_000) | st.integers() | st.booleans(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=6,
    )
)
def test_whatever_comes_fits_an_event(value: Any) -> None:
    assert size(bound({"value": value})) <= MAX_DATA_BYTES


@given(st.text(max_size=30).map(lambda text: text * 10_000))
@settings(max_examples=30, deadline=None)
def test_pieces_of_a_text_join_to_it_and_each_fits(text: str) -> None:
    pieces = list(split_text(text))
    assert "".join(piece for _, piece in pieces) == text
    assert [offset for offset, _ in pieces] == [
        len("".join(piece for _, piece in pieces[:n])) for n in range(len(pieces))
    ]
    assert all(size(piece) <= MAX_EVENT_BYTES for _, piece in pieces)


def test_even_control_characters_fit() -> None:
    assert size("\x01" * MAX_CHUNK_CHARS) <= MAX_EVENT_BYTES
