from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.scripted_scenario import ScenarioError, load_scenarios, parse_scenarios

SCENARIOS = Path(__file__).parents[3] / "scripts" / "scenarios"
HELLO: dict[str, Any] = {"name": "hello", "steps": [{"content": [{"text": "hi"}]}]}


def hello_with(*content: Any) -> dict[str, Any]:
    return {"name": "hello", "steps": [{"content": [{"text": "hi"}, *content]}]}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([], None),
        (3, "top level: "),
        ({"name": "x"}, "steps: Field required"),
        ({"name": "x", "steps": []}, "steps: "),
        ({**HELLO, "stpes": []}, "stpes: "),
        ({**HELLO, "match": {"promt": "x"}}, "match.promt: "),
        (hello_with({"txt": "x"}), "steps[0].content[1]: an item needs one of these keys: text"),
        (hello_with("x"), "steps[0].content[1]: an item needs one of these keys: text"),
        (hello_with({"tool": "Bash", "args": {}}), "steps[0].content[1].args: "),
        (hello_with({"tool": "Bash", "input": []}), "steps[0].content[1].input: "),
        (hello_with({"http_error": 200}), "steps[0].content[1].http_error: "),
        (hello_with({"pause_s": -1}), "steps[0].content[1].pause_s: "),
        (hello_with({"cut": False}), "steps[0].content[1].cut: "),
        ([HELLO, {"name": "y"}], "[1].steps: Field required"),
    ],
)
def test_a_broken_scenario_is_refused_with_the_file_and_the_place(
    tmp_path: Path, value: Any, problem: str | None
) -> None:
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    if problem is None:
        assert load_scenarios([path]) == []
        return
    with pytest.raises(ScenarioError) as caught:
        load_scenarios([path])
    assert str(caught.value).startswith(f"{path}: {problem}")
    assert ";" not in str(caught.value), "one mistake is one problem"


def test_a_file_that_is_not_json_is_refused_with_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "broken.json"
    path.write_text('{\n  "name": oops\n}', encoding="utf-8")
    with pytest.raises(ScenarioError, match=r"broken\.json:2:11: not JSON"):
        load_scenarios([path])


def test_a_missing_file_and_one_that_is_not_text_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"nowhere\.json: cannot be read"):
        load_scenarios([tmp_path / "nowhere.json"])
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ScenarioError, match=r"bytes\.json: is not UTF-8"):
        load_scenarios([tmp_path / "bytes.json"])


def test_a_file_may_hold_several_scenarios() -> None:
    assert [s.name for s in parse_scenarios([HELLO, {**HELLO, "name": "two"}])] == ["hello", "two"]


def test_every_scenario_that_is_shipped_can_be_loaded() -> None:
    paths = sorted(SCENARIOS.glob("*.json"))
    assert paths
    assert load_scenarios(paths)
