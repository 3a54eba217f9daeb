"""Known secrets and well-known shapes of tokens vanish from text, in every form."""

from __future__ import annotations

import base64
import json
import threading
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.redaction import KEPT_FOR_S, MASK, MAX_KEPT, Redactor

SECRET = 'p&ss/w"rd+ü 12'


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET, safe=""),
        quote_plus(SECRET),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
    ],
    ids=["plain", "url", "form", "json", "json-utf8"],
)
def test_every_form_of_a_known_secret_is_masked(form: str) -> None:
    assert Redactor([SECRET]).redact(f"before {form} after") == f"before {MASK} after"


@given(
    secret=st.text(min_size=12, max_size=40),
    before=st.text(max_size=8),
    after=st.text(max_size=8),
)
def test_base64_of_a_secret_at_any_offset_shows_at_most_its_edges(
    secret: str, before: str, after: str
) -> None:
    raw = (before + secret + after).encode()
    redactor = Redactor([secret])
    for encoded in (base64.b64encode(raw).decode(), base64.urlsafe_b64encode(raw).decode()):
        redacted = redactor.redact(encoded)
        kept = len(redacted.replace(MASK, ""))
        neighbours = len((before + after).encode())
        assert MASK in redacted
        assert kept <= neighbours * 4 // 3 + 8  # the neighbours, the two edges and the padding


def test_a_secret_that_contains_another_leaves_nothing_behind() -> None:
    redactor = Redactor(["swordfish", "swordfish-and-more"])

    assert redactor.redact("swordfish-and-more swordfish") == f"{MASK} {MASK}"


def test_short_values_are_left_alone() -> None:
    assert Redactor(["", "a", "admin"]).redact("the admin has a cat") == "the admin has a cat"


def test_a_secret_is_masked_from_the_moment_it_is_added() -> None:
    redactor = Redactor()
    assert redactor.redact("open sesame") == "open sesame"

    redactor.add_many(["open sesame"])

    assert redactor.redact("say open sesame!") == f"say {MASK}!"


def test_the_oldest_secrets_of_ended_runs_are_forgotten_and_the_permanent_ones_never() -> None:
    redactor = Redactor(["the-permanent-one"])
    redactor.add_many(["the-oldest-one"])
    redactor.add_many(["the-refreshed-one"])
    redactor.add_many(f"secret-number-{number}" for number in range(MAX_KEPT - 2))
    redactor.add_many(["the-refreshed-one"])
    redactor.add_many(["one-too-many"])

    text = "the-permanent-one the-oldest-one the-refreshed-one one-too-many"
    assert redactor.redact(text) == f"{MASK} the-oldest-one {MASK} {MASK}"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_late_lines_of_an_ended_run_are_masked_and_its_secrets_forgotten_in_the_end() -> None:
    clock = Clock()
    redactor = Redactor(clock=clock)
    run = redactor.open_run(["swordfish"])
    clock.now = 10 * KEPT_FOR_S
    assert redactor.redact("swordfish") == MASK
    run.close()
    clock.now += KEPT_FOR_S - 1
    assert redactor.redact("swordfish") == MASK
    clock.now += 1
    assert redactor.redact("swordfish") == "swordfish"


def test_a_secret_that_two_runs_share_is_known_until_the_last_has_ended() -> None:
    clock = Clock()
    redactor = Redactor(clock=clock)
    first, second = redactor.open_run(["swordfish"]), redactor.open_run(["swordfish"])
    first.close()
    first.close()
    clock.now = 10 * KEPT_FOR_S
    assert redactor.redact("swordfish") == MASK
    second.close()
    clock.now *= 2
    assert redactor.redact("swordfish") == "swordfish"


def test_however_many_runs_are_live_none_of_their_secrets_is_forgotten() -> None:
    redactor = Redactor()
    for number in range(MAX_KEPT + 10):
        redactor.open_run([f"secret-of-run-{number}"])
    assert redactor.redact("secret-of-run-0!") == f"{MASK}!"


def test_a_run_knows_its_own_secrets_and_the_process_s_only() -> None:
    redactor = Redactor(["the-executor-token"])
    redactor.open_run(["of-another-run"])
    run = redactor.open_run(["of-this-run"])
    text = "the-executor-token of-another-run of-this-run"
    assert run.redact(text) == f"{MASK} of-another-run {MASK}"
    assert redactor.redact(text) == f"{MASK} {MASK} {MASK}"


def test_strings_are_masked_at_any_depth_and_keys_only_where_they_come_from_outside() -> None:
    run = Redactor().open_run(["swordfish"])
    data = {
        "swordfish": "a swordfish",
        "id": "swordfish",
        "arguments": {"swordfish": [{"x": ("swordfish", 7, None, True)}]},
        "result": {"swordfish": "swordfish"},
    }
    assert run.redact_data(data, intact=frozenset({"id"})) == {
        "swordfish": f"a {MASK}",
        "id": "swordfish",
        "arguments": {MASK: [{"x": [MASK, 7, None, True]}]},
        "result": {"swordfish": MASK},
    }


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("key sk-ant-api03-abcDEF_123-456.", "key ***."),
        ("ghp_0123456789abcdefABCDEF", "***"),
        ("github_pat_11ABCDEFG0123456789_abcdefghij", "***"),
        ("token=glpat-abcDEF-1234567890xyz", "token=***"),
        ("xoxb-123456789012-abcdef", "***"),
        ("AKIAIOSFODNN7EXAMPLE", "***"),
        ("Authorization: Bearer abc.def-123", "Authorization: Bearer ***"),
        ("{'Authorization': 'bearer abcdefgh'}", "{'Authorization': 'bearer ***'}"),
        ("Authorization: Basic dXNlcjpwYXNz", "Authorization: Basic ***"),
        ("https://user:p@ss@host/path", "https://***@host/path"),
        ("https://token@host/a@b", "https://***@host/a@b"),
        ('"url": "https://a:b@h"', '"url": "https://***@h"'),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.s1gn-ature", "***"),
    ],
)
def test_what_looks_like_a_token_is_masked_though_nobody_named_it(text: str, redacted: str) -> None:
    assert Redactor().redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "ssh://git@github.com/owner/repo.git",
        "git@github.com:owner/repo.git",
        "https://host/path?to=someone@example.org",
        "basic functionality works",
        "runs in /home/sk-ant/file",
        "mailto someone@example.org",
    ],
)
def test_ordinary_text_stays_as_it_is(text: str) -> None:
    assert Redactor().redact(text) == text


@pytest.mark.parametrize("beginning", ["eyJ", "eyJ-", "eyJhbGciOi", "://", "Basic ", "ghp_"])
def test_a_megabyte_of_beginnings_does_not_hold_up_the_log(beginning: str) -> None:
    # Not read once but from each beginning anew, it would take hours and not milliseconds.
    text = beginning * (2**20 // len(beginning))
    redactor = Redactor(["swordfish"])
    assert redactor.redact(f"{text} swordfish").endswith(f" {MASK}")
    assert redactor.open_run([]).redact(f"{text} ").endswith(" ")


def test_threads_may_add_and_redact_at_the_same_time() -> None:
    redactor = Redactor(["always-secret"])
    failures: list[str] = []

    def add() -> None:
        for number in range(50):
            redactor.add_many([f"{threading.get_ident()}-{number}-secret"])

    def redact() -> None:
        seen = [redactor.redact("always-secret") for _ in range(200)]
        failures.extend(text for text in seen if text != MASK)

    threads = [threading.Thread(target=work) for work in (add, redact, add, redact)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []


def test_a_secret_that_no_encoding_knows_hinders_no_other() -> None:
    redactor = Redactor()
    redactor.add_many(["swordfish-\ud800", "plain-secret"])
    assert redactor.redact("swordfish-\ud800 and plain-secret") == "*** and ***"


def test_hex_digits_of_a_secret_are_masked() -> None:
    redactor = Redactor(["hunter-two-six"])
    digits = b"x hunter-two-six y".hex()
    for text in (digits, digits.upper()):
        assert "***" in redactor.redact(text)
        assert b"hunter-two-six".hex() not in redactor.redact(text).lower()
