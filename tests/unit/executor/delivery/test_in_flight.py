from __future__ import annotations

from executor.delivery.in_flight import InFlight, SentWithoutAcks
from executor.delivery.ledger import Account
from shared.protocol.events import RunRef

A, B = ("a", 1), ("b", 1)


def account(name: str) -> Account:
    return Account(RunRef(1, name), 1, 0)


def state(flight: InFlight) -> tuple[int, float | None]:
    return len(flight), flight.oldest


def test_the_run_that_waits_longest_decides() -> None:
    flight = InFlight()
    assert state(flight) == (0, None)
    flight.sent(A, 1, now=10)
    flight.sent(B, 1, now=11)
    flight.sent(A, 2, now=12)
    assert state(flight) == (3, 10)
    flight.advanced(A, 1, now=13)
    assert state(flight) == (2, 11)
    flight.advanced(B, 1, now=14)
    assert state(flight) == (1, 13)
    flight.advanced(A, 2, now=15)
    assert state(flight) == (0, None)


def test_sending_again_does_not_end_the_wait() -> None:
    flight = InFlight()
    flight.sent(A, 1, now=10)
    flight.given_back(A)
    assert state(flight) == (0, 10)
    flight.sent(A, 1, now=20)
    assert state(flight) == (1, 10)
    flight.forget(A)
    assert state(flight) == (0, None)


def test_without_acks_nothing_counts_as_delivered_before_its_time() -> None:
    sent = SentWithoutAcks(60)
    a, b = account("a"), account("b")
    sent.sent(a, 1, now=100.0)
    sent.sent(a, 2, now=100.9)
    sent.sent(b, 7, now=101.5)
    assert sent.due_at == 161.0
    assert list(sent.take_due(160.9)) == []
    assert list(sent.take_due(161.0)) == [(a, 2)]
    assert list(sent.take_due(200.0)) == [(b, 7)]
    assert sent.due_at is None


def test_without_acks_what_is_sent_again_takes_nothing_back() -> None:
    sent = SentWithoutAcks(60)
    a = account("a")
    for seq in (4, 5, 4):
        sent.sent(a, seq, now=100.0)
    assert list(sent.take_due(161.0)) == [(a, 5)]


def test_a_million_events_in_an_hour_take_the_memory_of_a_minutes_stretches() -> None:
    sent = SentWithoutAcks(60)
    run, kept = account("a"), 0
    for n in range(1_000_000):
        now = n / 300
        sent.sent(run, n, now)
        if n % 1000 == 0:
            list(sent.take_due(now))
            kept = max(kept, len(sent._stretches))
    assert kept <= 70
