"""Errors say what happened and what to do; their codes are stable."""

from __future__ import annotations

import pytest

from shared import errors
from shared.status import ErrorCode


def test_the_hint_follows_the_sentence() -> None:
    error = errors.ConfigError("LOG_LEVEL is wrong", hint="use INFO")

    assert str(error) == "LOG_LEVEL is wrong (use INFO)"
    assert error.message == "LOG_LEVEL is wrong"


def test_without_a_hint_the_sentence_stands_alone() -> None:
    assert str(errors.LinkLost("gone")) == "gone"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.WegentError, "internal"),
        (errors.ConfigError, "config_error"),
        (errors.ProtocolError, "invalid_request"),
        (errors.LinkLost, "link_lost"),
        (errors.LinkRejected, "unauthorized"),
    ],
)
def test_codes_are_part_of_the_contract(kind: type[errors.WegentError], code: str) -> None:
    assert kind.code == code


def test_losing_a_link_and_being_refused_are_told_apart_by_class() -> None:
    assert not issubclass(errors.LinkRejected, errors.LinkLost)
    assert not issubclass(errors.LinkLost, errors.LinkRejected)


def test_a_refusal_and_a_failure_carry_the_code_for_the_wire() -> None:
    refusal = errors.Refusal(ErrorCode.BUSY, "no place", reason="slots")
    failure = errors.RunError(ErrorCode.CLONE_FAILED, "no such host", details="git said so")

    assert (refusal.error_code, refusal.reason) == ("busy", "slots")
    assert (failure.error_code, failure.details) == ("clone_failed", "git said so")
