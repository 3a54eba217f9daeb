from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

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
