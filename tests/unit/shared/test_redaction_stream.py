"""Text in pieces is masked as the whole would be, and held back no more than it must be."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from itertools import pairwise
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.redaction_stream import StreamRedactor
from shared.secret_patterns import MASK, SecretPatterns

SECRET = 's3cret/w"rd+ü 12'
TOKEN = "ghp_0123456789abcdefABCDEF"
WEB_TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.s1gn-ature"


def masked(patterns: SecretPatterns, pieces: Sequence[str]) -> str:
    stream = StreamRedactor(patterns)
    return "".join([*(stream.feed(piece) for piece in pieces), stream.flush()])


# Few letters make secrets overlap, contain one another, and begin and end like one another.
letters = st.text(alphabet="ab", max_size=12)
few_secrets = st.lists(st.text(alphabet="ab", min_size=6, max_size=9), max_size=4)
fragments = st.sampled_from(
    ["sk-ant-", "ghp_", "gh", "AKIA", "eyJhbGciOi", "eyJ", "abcdefgh", "A" * 16, "-", ".", " ", "é"]
)
token_like = st.lists(fragments | letters, max_size=12).map("".join)


@st.composite
def texts_in_pieces(draw: st.DrawFn) -> tuple[list[str], list[str]]:
    """Secrets, and the pieces of a text that has parts of them."""
    secrets = draw(few_secrets | st.lists(st.text(min_size=6, max_size=20), max_size=3))
    parts = letters | token_like | st.text(max_size=5)
    if secrets:
        parts |= st.sampled_from(secrets) | st.sampled_from([s[: len(s) // 2] for s in secrets])
    text = "".join(draw(st.lists(parts, max_size=8)))
    cuts = draw(st.lists(st.integers(0, len(text)), max_size=12).map(sorted))
    ends = [0, *cuts, len(text)]
    return secrets, [text[a:b] for a, b in pairwise(ends)]


@given(texts_in_pieces())
@example((["ababab", "babababa"], ["abababab", "ab"]))
@example(([], ["ghp_0123456789abcdef", "-x", "eyJhbGciOi.a", ".b"]))
@example((["abcabc"], ["sk-ant-01234567abc", "abc"]))
def test_pieces_are_masked_as_the_whole(case: tuple[list[str], list[str]]) -> None:
    secrets, pieces = case
    patterns = SecretPatterns(secrets)
    assert masked(patterns, pieces) == patterns.redact("".join(pieces))


@given(texts_in_pieces())
def test_no_known_secret_is_left_and_nothing_else_is_lost(
    case: tuple[list[str], list[str]],
) -> None:
    secrets, pieces = case
    text = "".join(pieces)
    covered = [False] * len(text)
    for secret in secrets:
        for at in range(len(text)):
            if text.startswith(secret, at):
                covered[at : at + len(secret)] = [True] * len(secret)
    expected = ""
    for at, character in enumerate(text):
        if not covered[at]:
            expected += character
        elif at == 0 or not covered[at - 1]:
            expected += MASK
    plain = _PlainOnly(secrets)
    assert masked(plain, pieces) == expected


class _PlainOnly(SecretPatterns):
    """Only the secrets as they stand, so that what is expected can be worked out anew."""

    def __init__(self, secrets: Sequence[str]) -> None:
        super().__init__(shapes=False)
        self._forms = sorted(set(secrets), key=len)
        for secret in self._forms:
            self._forms_by_first.setdefault(secret[0], []).append(secret)
        self._firsts = frozenset(self._forms_by_first)
        self.longest = max(map(len, self._forms), default=0)


@given(texts_in_pieces())
def test_no_more_is_held_back_than_could_still_become_a_secret(
    case: tuple[list[str], list[str]],
) -> None:
    secrets, pieces = case
    patterns = SecretPatterns(secrets)
    stream = StreamRedactor(patterns)
    for piece in pieces:
        stream.feed(piece)
        assert stream.held < patterns.longest


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET, safe=""),
        quote(SECRET, safe="").lower(),
        json.dumps(SECRET)[1:-1],
        base64.b64encode(SECRET.encode()).decode(),
        base64.b64encode(f"me:{SECRET}".encode()).decode(),
        TOKEN,
        WEB_TOKEN,
    ],
    ids=["plain", "url", "url-lower", "json", "base64", "base64-inside", "token", "web-token"],
)
def test_a_secret_does_not_show_through_any_seam(form: str) -> None:
    patterns = SecretPatterns([SECRET])
    whole = patterns.redact(f"before {form} after")
    assert MASK in whole
    assert len(whole) < len("before  after") + 12  # the edges of Base64 belong to the neighbours
    for seam in range(len(form)):
        pieces = [f"before {form[:seam]}", f"{form[seam:]} after"]
        assert masked(patterns, pieces) == whole
    assert masked(patterns, list(f"before {form} after")) == whole


def test_text_that_begins_no_secret_passes_at_once() -> None:
    stream = StreamRedactor(SecretPatterns([SECRET, TOKEN]))
    for piece in ("I", "'ll look", " at the", " test of", " divide_evenly,", ":\n\n"):
        assert stream.feed(piece) == piece


def test_what_turns_out_to_be_no_secret_follows_with_the_next_piece() -> None:
    stream = StreamRedactor(SecretPatterns([SECRET]))
    assert stream.feed("two files") == "two file"
    assert stream.feed(" more") == "s more"


def test_a_token_is_masked_as_soon_as_it_is_certain_and_however_long_it_goes_on() -> None:
    stream = StreamRedactor(SecretPatterns())
    assert stream.feed("key sk-ant-0123") == "key "
    assert stream.feed("4567") == MASK
    assert [stream.feed("89ab") for _ in range(1000)] == [""] * 1000
    assert stream.feed(" done") == " done"


def test_tokens_inside_of_an_endless_token_do_not_add_up() -> None:
    stream = StreamRedactor(SecretPatterns())
    piece = "-ghp_0123456789abcdefgh"
    assert "".join(stream.feed(piece) for _ in range(1_000)) == f"-{MASK}"
    assert len(stream._open) == 1


def test_the_end_of_a_text_gives_back_what_was_held_and_begins_anew() -> None:
    stream = StreamRedactor(SecretPatterns(["swordfish"]))
    assert stream.feed("a sword") == "a "
    assert stream.flush() == "sword"
    assert stream.feed("fish") == "fish"


@pytest.mark.parametrize(
    "text",
    [
        "the task-ant-farmhouses-and-more",
        "Authorization: Bearer $TOKEN",
        "postgres://user:password@localhost/db",
        "sk-ant-...",
        "eyJ0aGlzIjogIm5vIHRva2VuIn0=",
    ],
)
def test_what_an_agent_explains_stays_readable(text: str) -> None:
    assert SecretPatterns().redact(text) == text


def test_base64_with_line_breaks_is_known() -> None:
    secret = "sk-long-" + "0123456789abcdef" * 6
    wrapped = base64.encodebytes(secret.encode()).decode()
    assert "\n" in wrapped.strip()
    for text in (wrapped, wrapped.replace("\n", "\\n")):
        left = SecretPatterns([secret]).redact(text).replace(MASK, "")
        assert len(left.strip("\\n")) <= 4


def test_a_key_of_several_lines_is_known_line_by_line() -> None:
    lines = ["MIIEvQIBADANBgkqhkiG9w0B", "AQEFAASCBKcwggSjAgEAAoIB"]
    key = "\n".join(["-----BEGIN KEY-----", *lines, "-----END KEY-----", ""])
    numbered = "".join(f"{n}\t{line}\n" for n, line in enumerate(key.splitlines(), 1))
    left = SecretPatterns([key]).redact(numbered)
    assert "MIIE" not in left
    assert "AQEF" not in left
    assert "2\t***\n" in left
