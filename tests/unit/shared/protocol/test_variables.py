from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.protocol.variables import resolved

KNOWN = {"HOST": "h.example", "EMPTY": "", "A_1": "one"}


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("https://${HOST}/x", "https://h.example/x"),
        ("${HOST}${A_1}", "h.exampleone"),
        ("${OTHER:-else}", "else"),
        ("${OTHER:-}", ""),
        ("${OTHER:-a:-b}", "a:-b"),
        ("${HOST:-else}", "h.example"),
        ("${EMPTY}", ""),
        ("${EMPTY:-else}", "else"),
        ("$HOST and $ {HOST}", "$HOST and $ {HOST}"),
        ({"a": ["${A_1}", 1, None, {"${HOST}": "${HOST}"}]},
         {"a": ["one", 1, None, {"${HOST}": "h.example"}]}),
    ],
)  # fmt: skip
def test_references_are_replaced_in_values(value: Any, result: Any) -> None:
    assert resolved(value, KNOWN) == result


def test_a_variable_of_the_executor_is_none_of_the_requests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ONLY_HERE", "s3cr3t")

    with pytest.raises(ValueError, match="variable ONLY_HERE is not among") as raised:
        resolved({"a": ["${ONLY_HERE}"]}, {})

    assert "s3cr3t" not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    ["${}", "${a-b}", "${ A}", "${A", "${1A}", "${A:x}", "${OTHER:-${HOST}}", "${${HOST}}"],
)
def test_what_begins_like_a_reference_and_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must begin"):
        resolved(text, KNOWN)


@pytest.mark.parametrize(
    "variables", [{"A": "${ANTHROPIC_API_KEY}", "B": ""}, {"A": "$", "B": "{ANTHROPIC_API_KEY}"}]
)
def test_no_value_can_make_a_reference_for_whoever_reads_it_next(
    variables: dict[str, str],
) -> None:
    with pytest.raises(ValueError, match="be in no value"):
        resolved("${A}${B}", variables)


@given(st.text(alphabet="${}:-AB", max_size=20), st.text(alphabet="${}AB", max_size=6))
def test_whatever_is_resolved_holds_no_reference(text: str, value: str) -> None:
    try:
        found = resolved(text, {"A": value, "B": "b"})
    except ValueError:
        return
    assert "${" not in found
