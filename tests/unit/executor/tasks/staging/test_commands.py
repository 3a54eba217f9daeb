from __future__ import annotations

from typing import Any

import pytest

from executor.tasks.staging.commands import with_command
from shared.protocol.execution import read_execution_request
from shared.protocol.prompt import TextBlock


def prompt(text: Any, **commands: str) -> Any:
    raw = {"task_id": 1, "subtask_id": 2, "prompt": text, "commands": commands}
    return with_command(read_execution_request(raw)).prompt


@pytest.mark.parametrize(
    ("text", "command", "expected"),
    [
        ("/fix", "Fix it.", "Fix it."),
        ("  /fix  ", "Fix it.", "Fix it."),
        ("/fix a b", "Fix $ARGUMENTS.", "Fix a b."),
        ("/fix a\nb", "Fix $ARGUMENTS.", "Fix a\nb."),
        ("/fix", "Fix $ARGUMENTS.", "Fix ."),
        ('/fix "a b" c', "$2, $1, $3!", "c, a b, !"),
        ("/fix don't stop", "$1 $2", "don't stop"),
        ("/fix a b", "Fix it.", "Fix it.\n\nArguments: a b"),
        ("/fix $1 $ARGUMENTS", "<$ARGUMENTS>", "<$1 $ARGUMENTS>"),
        ("/fix a", "$10 $ARGUMENTSX $0", "$10 $ARGUMENTSX $0\n\nArguments: a"),
        ("/fix", "---\ndescription: d\nallowed-tools: Bash\n---\nFix it.\n", "Fix it."),
        ("/fix", "!`touch x` @/etc/passwd", "!`touch x` @/etc/passwd"),
        ("/fixes", "Fix it.", "/fixes"),
        ("please /fix", "Fix it.", "please /fix"),
        ("/other a", "Fix it.", "/other a"),
        ("/ fix", "Fix it.", "/ fix"),
    ],
)
def test_a_prompt_that_calls_a_command_becomes_its_text(
    text: str, command: str, expected: str
) -> None:
    assert prompt(text, fix=command) == expected


def test_a_command_may_have_a_place_in_its_name() -> None:
    assert prompt("/team:fix.all x", **{"team:fix.all": "Fix $1"}) == "Fix x"


def test_the_first_text_of_a_prompt_of_several_parts_calls_it() -> None:
    picture = {"type": "image", "source": {"data": "YQ=="}}
    parts = prompt([picture, {"type": "text", "text": "/fix a"},
                    {"type": "text", "text": "/fix b"}], fix="Fix $1")  # fmt: skip

    assert [part.text for part in parts if isinstance(part, TextBlock)] == ["Fix a", "/fix b"]
    assert len(parts) == 3


def test_without_commands_nothing_changes() -> None:
    assert prompt("/fix a") == "/fix a"
