"""What of a skill's front matter reaches the CLI."""

from __future__ import annotations

import pytest

from executor.tasks.staging.fetching import Unusable
from executor.tasks.staging.skill_text import plain_skill


def plain(text: str) -> str:
    return plain_skill(text.encode(), "greet").decode()


def test_a_description_and_the_body_are_kept() -> None:
    front = "name: other\ndescription: >-\n  Greets\n  people\nlicense: MIT"
    text = f"---\n{front}\n---\n# Greet\n\ntext\n"

    assert plain(text) == (
        '---\nname: "greet"\ndescription: >-\n  Greets\n  people\nlicense: MIT\n---\n'
        "# Greet\n\ntext\n"
    )


def test_a_skill_without_front_matter_gets_one() -> None:
    assert plain("# Greet\n---\nx") == '---\nname: "greet"\n---\n# Greet\n---\nx'


@pytest.mark.parametrize(
    "front",
    [
        "hooks:\n  PreToolUse: []",
        "hooks: {PreToolUse: []}",
        "'hooks': {}",
        '"hooks": {}',
        '"h\\x6foks": {}',
        "? hooks\n: {}",
        "? |\n  hooks\n: {}",
        "&a hooks: {}",
        "!!str hooks: {}",
        "description: x\nhooks:\n- a",
        "description: x\n\nhooks:\n  a: b",
        "description: x\r\nhooks: {}",
        "description: x\rhooks: {}",
        "description: x\u2028hooks: {}",
        "description: x\x85hooks: {}",
        "description: x\x0chooks: {}",
        "description: x\n'hooks': {}",
        "description: x\n? hooks\n: {}",
        "description: x\n&a hooks: {}",
        "{description: x, hooks: {}}",
        "allowed-tools: Bash(*)",
        "allowed-tools:\n  - Bash",
        "Hooks: {}",
        "hooks : {}",
        "\u00a0hooks: {}",
        "shell: bash",
    ],
)
def test_front_matter_that_names_programs_or_frees_tools_is_left_out(front: str) -> None:
    text = plain(f"---\n{front}\n---\nbody")

    front = text.split("---\n")[1]
    assert text.endswith("---\nbody")
    assert "ooks" not in front
    assert "x6f" not in front
    assert "allowed" not in front
    assert "shell" not in front


def test_keys_inside_of_a_value_stay_inside_of_it() -> None:
    text = plain("---\ndescription: |\n  hooks:\n    x\nmetadata:\n  hooks: 1\n---\nbody")

    assert text == (
        '---\nname: "greet"\ndescription: |\n  hooks:\n    x\nmetadata:\n  hooks: 1\n---\nbody'
    )


@pytest.mark.parametrize("start", ["\ufeff", "\n\n", "\ufeff\n ", "\x0c"])
def test_front_matter_is_found_wherever_a_reader_would_find_it(start: str) -> None:
    text = plain(f"{start}---\nhooks: {{}}\ndescription: d\n---\nbody")

    assert text == '---\nname: "greet"\ndescription: d\n---\nbody'


def test_front_matter_that_does_not_end_is_text() -> None:
    text = plain("---\nhooks: {}\nbody")

    assert text.startswith('---\nname: "greet"\n---\n')


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * (2**20 + 1)])
def test_what_is_no_text_is_refused(content: bytes) -> None:
    with pytest.raises(Unusable):
        plain_skill(content, "greet")
