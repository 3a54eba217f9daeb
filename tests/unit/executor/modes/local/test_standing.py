"""What is remembered of the connection to the backend, and who is told of it."""

from __future__ import annotations

from executor.modes.local.heartbeat import Rhythm
from executor.modes.local.observer import LinkObserver, Observers
from executor.modes.local.standing import LinkStanding


def test_at_first_it_connects_and_nothing_has_failed() -> None:
    standing = LinkStanding()
    standing.connecting()
    assert (standing.state, standing.last_error, standing.last_heartbeat) == (
        "connecting",
        None,
        None,
    )


def test_failed_attempts_leave_since_when_it_tries() -> None:
    standing = LinkStanding()
    standing.since = "2026-01-01T12:00:00.123Z"
    standing.attempt_failed("refused")
    standing.attempt_failed("no route")
    assert (standing.since, standing.last_error) == ("2026-01-01T12:00:00.123Z", "no route")


def test_a_loss_begins_a_new_time_of_connecting_and_a_registration_ends_it() -> None:
    standing = LinkStanding()
    standing.registered(Rhythm(10, 30))
    standing.since = "2026-01-01T12:00:00.123Z"
    standing.lost("cut")
    assert (standing.state, standing.last_error) == ("connecting", "cut")
    assert standing.since > "2026-01-01T12:00:00.123Z"
    standing.registered(Rhythm(10, 30))
    assert (standing.state, standing.last_error) == ("registered", None)


def test_the_last_heartbeat_is_known_unless_the_backend_answers_none() -> None:
    standing = LinkStanding()
    standing.registered(Rhythm(30, None))
    standing.heartbeat_heard()
    assert standing.last_heartbeat is None
    standing.registered(Rhythm(10, 30))
    standing.heartbeat_heard()
    heard = standing.last_heartbeat
    standing.lost("cut")
    assert heard is not None
    assert standing.last_heartbeat == heard


def test_several_observers_are_told_everything() -> None:
    class Recorder(LinkObserver):
        def __init__(self) -> None:
            self.told: list[object] = []

        def connecting(self) -> None:
            self.told.append("connecting")

        def registered(self, rhythm: Rhythm) -> None:
            self.told.append(rhythm)

        def heartbeat_heard(self) -> None:
            self.told.append("heard")

        def lost(self, cause: str) -> None:
            self.told.append(("lost", cause))

        def attempt_failed(self, cause: str) -> None:
            self.told.append(("failed", cause))

        def stopping(self) -> None:
            self.told.append("stopping")

    recorders = Recorder(), Recorder()
    observers = Observers(*recorders)
    observers.connecting()
    observers.registered(Rhythm(1, 2))
    observers.heartbeat_heard()
    observers.lost("cut")
    observers.attempt_failed("refused")
    observers.stopping()
    for recorder in recorders:
        assert recorder.told == [
            "connecting",
            Rhythm(1, 2),
            "heard",
            ("lost", "cut"),
            ("failed", "refused"),
            "stopping",
        ]
