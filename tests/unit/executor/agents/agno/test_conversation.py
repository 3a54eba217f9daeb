"""What a conversation remembers, and for how long."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from executor.agents.agno.conversation import (
    KEPT_S,
    MAX_REMEMBERED_CHARS,
    Conversation,
    forget_old,
)


def test_it_is_found_again_with_what_was_said(tmp_path: Path) -> None:
    conversation = Conversation.begin(tmp_path / "new", "1")
    conversation.add([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}])
    conversation.save()

    found = Conversation.find(tmp_path / "new", "1", conversation.id)

    assert found == conversation
    assert [message["content"] for message in conversation.messages] == ["Hi", "Yo"]


def test_only_its_owner_can_read_it(tmp_path: Path) -> None:
    conversation = Conversation.begin(tmp_path / "new", "1")

    assert stat.S_IMODE(conversation.file.stat().st_mode) == 0o600
    assert stat.S_IMODE(conversation.file.parent.stat().st_mode) == 0o700


def test_another_session_does_not_find_it(tmp_path: Path) -> None:
    conversation = Conversation.begin(tmp_path, "1")

    assert Conversation.find(tmp_path, "2", conversation.id) is None


def test_a_file_that_is_damaged_is_none(tmp_path: Path) -> None:
    for number, text in enumerate(("", "{", "[]", '{"session": "1"}', '{"session":"1","turns":5}')):
        (tmp_path / f"{number}.json").write_text(text)
        assert Conversation.find(tmp_path, "1", str(number)) is None


def test_the_oldest_turns_are_forgotten_whole_when_it_gets_too_long(tmp_path: Path) -> None:
    conversation = Conversation.begin(tmp_path, "1")
    for number in range(5):
        text = str(number) * (MAX_REMEMBERED_CHARS // 3)
        conversation.add([{"role": "user", "content": text}, {"role": "assistant", "content": "."}])

    assert [turn[0]["content"][0] for turn in conversation.turns] == ["3", "4"]


def test_pictures_are_forgotten_before_anything_that_was_said(tmp_path: Path) -> None:
    conversation = Conversation.begin(tmp_path, "1")
    picture = {"content": "A" * MAX_REMEMBERED_CHARS}
    conversation.add(
        [
            {"role": "user", "content": "Look at", "images": [picture]},
            {"role": "user", "content": "", "images": [picture]},
        ]
    )
    conversation.add([{"role": "user", "content": "And this", "images": [picture]}])

    first, second, third = conversation.messages
    assert [first["content"], second["content"]] == ["Look at", "(a picture)"]
    assert not first["images"] and not second["images"]
    assert third["images"] == [picture]


def test_a_turn_that_is_too_long_by_itself_is_remembered(tmp_path: Path) -> None:
    conversation = Conversation.begin(tmp_path, "1")
    conversation.add([{"role": "user", "content": "x" * MAX_REMEMBERED_CHARS * 2}])

    assert len(conversation.turns) == 1


def test_conversations_that_nobody_continues_are_deleted(tmp_path: Path) -> None:
    old, new = Conversation.begin(tmp_path, "1"), Conversation.begin(tmp_path, "2")
    os.utime(old.file, (0, 0))

    forget_old(tmp_path, now=float(KEPT_S + 10))
    forget_old(tmp_path / "absent")

    assert list(tmp_path.iterdir()) == [new.file]
