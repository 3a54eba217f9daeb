"""Who has a container, and who goes first when there is no more room."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from shared.containers.members import Endpoint, Member, Members


def member(name: str, session: str | None = None, *, used: float = 0.0, runs: str = "") -> Member:
    endpoint = Endpoint("http://127.0.0.1:1", f"id-{name}", SecretStr("t"))
    return Member(
        name, "image", "persistent", Path(name), session, endpoint, runs=set(runs.split()),
        used=used,
    )  # fmt: skip


def members(*those: Member, limit: int = 3) -> Members:
    found = Members(limit)
    for one in those:
        found.add(one)
    return found


def test_a_warm_one_goes_before_an_idle_one() -> None:
    warm = member("warm", used=9)
    assert members(member("a", "1", used=1), warm).victim() is warm


def test_of_the_idle_ones_the_one_goes_that_was_not_used_for_longest() -> None:
    oldest = member("b", "2", used=1)
    assert members(member("a", "1", used=2), oldest, member("c", "3", used=3)).victim() is oldest


def test_one_that_a_run_holds_never_goes() -> None:
    full = members(member("a", "1", runs="r"), limit=1)
    assert full.full
    assert full.victim() is None


def test_one_that_starts_does_not_go() -> None:
    starting = Member("a", "image", "ephemeral", Path("a"), "1")
    assert members(starting, limit=1).victim() is None


def test_a_place_is_free_again_when_its_member_is_dropped() -> None:
    one = member("a", "1")
    found = members(one, limit=1)
    found.drop(one)
    found.drop(one)
    assert not found.full
    assert found.of_session("1") is None
    assert found.of_container("id-a") is None


def test_dropping_a_former_member_leaves_its_successor() -> None:
    former, successor = member("a", "1"), member("a", "1")
    found = members(former)
    found.drop(former)
    found.add(successor)
    found.drop(former)
    assert found.of_session("1") is successor


def test_a_container_is_known_by_its_id_or_by_the_name_it_will_have() -> None:
    found = members(member("a", "1"))
    assert found.knows("id-a", "another name")
    assert found.knows("another id", "a")
    assert not found.knows("another id", "another name")
