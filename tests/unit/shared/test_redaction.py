"""Known secrets and well-known shapes of tokens vanish from text, in every form."""

from __future__ import annotations

import base64
import json
import threading
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.redaction import MASK, MAX_RUN_SECRETS, Redactor

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

    redactor.add("open sesame")

    assert redactor.redact("say open sesame!") == f"say {MASK}!"


def test_the_oldest_secrets_of_runs_are_forgotten_and_the_permanent_ones_never() -> None:
    redactor = Redactor(["the-permanent-one"])
    redactor.add("the-oldest-one")
    redactor.add("the-refreshed-one")
    redactor.add_many(f"secret-number-{number}" for number in range(MAX_RUN_SECRETS - 2))
    redactor.add("the-refreshed-one")
    redactor.add("one-too-many")

    text = "the-permanent-one the-oldest-one the-refreshed-one one-too-many"
    assert redactor.redact(text) == f"{MASK} the-oldest-one {MASK} {MASK}"


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


def test_threads_may_add_and_redact_at_the_same_time() -> None:
    redactor = Redactor(["always-secret"])
    failures: list[str] = []

    def add() -> None:
        for number in range(50):
            redactor.add(f"{threading.get_ident()}-{number}-secret")

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
