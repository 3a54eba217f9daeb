"""What is to be masked, made ready for searching: known secrets in every form, and token shapes.

A character is masked when any pattern covers it, wherever patterns overlap; each unbroken run of
masked characters becomes one ``***``. So the result depends on the text alone, and not on the order
in which patterns are tried or on the pieces in which the text came.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, quote_plus

MASK: Final = "***"

MIN_SECRET_LENGTH: Final = 6
"""Shorter values are not masked: they occur in ordinary words and would shred every line."""

BASE64_LINE_LENGTHS: Final = (64, 76)
"""Where encoders break lines: PEM, and MIME with ``base64`` of GNU."""

Span = tuple[int, int]
"""Beginning and end of what is masked."""


@dataclass(frozen=True, slots=True)
class Token:
    """Something that looks like a token, as far as the text goes."""

    start: int
    end: int
    tail: re.Pattern[str]
    """Matches what would go on with it."""


class SecretPatterns:
    """An immutable set of patterns. May be used from any thread.

    Args:
        secrets: Values to be masked in every form; see :func:`forms_of`.
        shapes: Whether to mask also what looks like a token of a well-known kind.
        find_forms: :func:`forms_of`, or a cache of it.
    """

    def __init__(
        self,
        secrets: Iterable[str] = (),
        *,
        shapes: bool = True,
        find_forms: Callable[[str], Iterable[str]] | None = None,
    ) -> None:
        find_forms = find_forms or forms_of
        self._forms = sorted({form for secret in secrets for form in find_forms(secret)}, key=len)
        self._shapes = _SHAPES if shapes else ()
        self._forms_by_first: dict[str, list[str]] = {}
        for form in self._forms:
            self._forms_by_first.setdefault(form[0], []).append(form)
        self._firsts = frozenset(self._forms_by_first) | {s.literal[0] for s in self._shapes}
        lengths = [len(form) for form in self._forms] + [s.shortest for s in self._shapes]
        self.longest = max(lengths, default=0)
        """Characters after which it is certain whether a pattern begins here."""
        self._shortest_token = min((shape.shortest for shape in self._shapes), default=0)

    def redact(self, text: str) -> str:
        """Return *text* masked."""
        spans = merge(self.spans(text))
        return mask(text, spans) if spans else text

    def spans(self, text: str, start: int = 0) -> list[Span]:
        """What is to be masked in ``text[start:]``, in no order and overlapping.

        What stands before *start* tells only whether a word begins there.
        """
        spans = self.spans_of_secrets(text, start)
        spans += [(token.start, token.end) for token in self.tokens(text, start)]
        return spans

    def spans_of_secrets(self, text: str, start: int) -> list[Span]:
        """Where the known secrets stand."""
        found: list[Span] = []
        room = len(text) - start
        for form in self._forms:
            if len(form) > room:
                break
            at = text.find(form, start)
            while at >= 0:
                found.append((at, at + len(form)))
                at = text.find(form, at + 1)
        return found

    def tokens(self, text: str, start: int) -> list[Token]:
        """Where something looks like a token."""
        found: list[Token] = []
        if len(text) - start < self._shortest_token:
            return found
        for shape in self._shapes:
            at = text.find(shape.literal, start)  # in most texts there is none, and this is fastest
            if at >= 0:
                matches = shape.whole.finditer(text, at)
                found += [Token(match.start(), match.end(), shape.tail) for match in matches]
        return found

    def undecided_from(self, text: str, start: int) -> int:
        """Where the end of *text* may be the beginning of a pattern; its length when nowhere."""
        length = len(text)
        for at in range(max(start, length - self.longest + 1), length):
            first = text[at]
            if first not in self._firsts:
                continue
            end = text[at:]
            for form in self._forms_by_first.get(first, ()):
                if len(form) > len(end) and form.startswith(end):
                    return at
            if self._shapes and _BEGINNING_OF_SHAPE.match(text, at):
                return at
        return length


def merge(spans: Sequence[Span]) -> list[Span]:
    """The same characters as runs that neither overlap nor touch, in order."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            if end > merged[-1][1]:
                merged[-1] = (merged[-1][0], end)
        else:
            merged.append((start, end))
    return merged


def mask(text: str, spans: Sequence[Span]) -> str:
    """*text* with each of these merged *spans* replaced."""
    pieces: list[str] = []
    position = 0
    for start, end in spans:
        pieces += (text[position:start], MASK)
        position = end
    return "".join((*pieces, text[position:]))


def forms_of(secret: str) -> Iterator[str]:
    """The secret as it stands, in URLs, in JSON, in hex and in Base64; nothing when too short.

    A text of several lines (a private key) is also known by its lines: programs print them with
    numbers or indented.
    """
    if len(secret) < MIN_SECRET_LENGTH:
        return
    yield from _forms_of_line(secret)
    if "\n" in secret:
        for line in map(str.strip, secret.splitlines()):
            if len(line) >= _MIN_LINE_LENGTH and not line.startswith("-----"):
                yield line


_MIN_LINE_LENGTH: Final = 16
_URL_SAFE: Final = str.maketrans("+/", "-_")
_PERCENT: Final = re.compile("%[0-9A-F]{2}")


def _forms_of_line(secret: str) -> Iterator[str]:
    yield secret
    for encoded in (quote(secret, safe="", errors="replace"), quote(secret, errors="replace")):
        yield encoded
        yield _PERCENT.sub(lambda match: match[0].lower(), encoded)
    yield quote_plus(secret, errors="replace")
    for ascii_only in (True, False):
        once = json.dumps(secret, ensure_ascii=ascii_only)
        yield once[1:-1]
        yield json.dumps(once, ensure_ascii=ascii_only)[3:-3]
    raw = secret.encode("utf-8", "replace")
    yield raw.hex()
    yield raw.hex().upper()
    for offset in range(3):
        # What precedes the secret ("user:") decides where its bits fall; the characters at the
        # two ends also carry bits of the neighbours and are left out.
        encoded = base64.b64encode(b"\0" * offset + raw).decode()
        inner = encoded[-(-offset * 8 // 6) : (offset + len(raw)) * 8 // 6]
        yield inner
        yield inner.translate(_URL_SAFE)
        yield quote(inner, safe="")
        for width in BASE64_LINE_LENGTHS if offset == 0 else ():
            lines = [inner[at : at + width] for at in range(0, len(inner), width)]
            if len(lines) > 1:
                yield "\n".join(lines)
                yield "\\n".join(lines)


class _Shape:
    """*literal* where a word begins, then at least *count* of *characters*, and all that follow."""

    def __init__(self, literal: str, count: int, characters: str) -> None:
        self.literal = literal
        self.count = count
        self.characters = characters
        self.shortest = len(literal) + count
        self.tail = re.compile(f"{characters}*", re.ASCII)
        # The literal comes first, by which the search leaps from one to the next.
        word_begins = f"(?<![A-Za-z0-9]{literal})"
        self.whole = re.compile(f"{literal}{word_begins}{characters}{{{count},}}", re.ASCII)


_WORD: Final = r"[\w-]"
_DOTTED: Final = r"[\w.-]"

_SHAPES: Final = (
    _Shape("sk-ant-", 8, _WORD),  # Anthropic
    *(_Shape(f"gh{kind}_", 16, _WORD) for kind in "pousr"),  # GitHub
    _Shape("github_pat_", 20, _WORD),
    _Shape("glpat-", 16, _WORD),  # GitLab
    *(_Shape(f"xox{kind}-", 10, _WORD) for kind in "abeoprs"),  # Slack
    _Shape("AKIA", 16, _WORD),  # AWS
    _Shape("ASIA", 16, _WORD),
    # JSON Web Tokens, by the Base64 of {"alg":, {"typ": and {"kid":
    *(_Shape(f"eyJ{name}", 10, _DOTTED) for name in ("hbGciOi", "0eXAiOi", "raWQiOi")),
)
"""Tokens that tell by themselves what they are.

What only its surroundings make a secret (``Bearer …``, ``https://user:…@``) is not among them: an
agent writes such examples all the time, and they would become unreadable.
"""


def _beginning(shape: _Shape) -> str:
    """A pattern for everything that more characters could make this shape of."""
    pattern = f"{shape.characters}{{0,{shape.count - 1}}}"
    for character in reversed(shape.literal[1:]):
        pattern = f"(?:{character}{pattern})?"
    return shape.literal[0] + pattern


_BEGINNING_OF_SHAPE: Final = re.compile(
    rf"(?<![A-Za-z0-9])(?:{'|'.join(map(_beginning, _SHAPES))})\Z", re.ASCII
)
