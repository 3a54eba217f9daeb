"""Masking of text that comes in pieces."""

from __future__ import annotations

import re

from shared.secret_patterns import MASK, SecretPatterns, Span, merge


class StreamRedactor:
    """Masks one text, piece by piece: what comes out joined is what the whole text would become.

    It holds back only what may be the beginning of a pattern, so less than the longest one, until
    that is decided. What cannot begin one passes at once.
    """

    def __init__(self, patterns: SecretPatterns) -> None:
        self._patterns = patterns
        self._held = ""
        self._held_masked = 0
        """How many characters of what is held are masked already, by what came before them."""
        self._open: set[re.Pattern[str]] = set()
        """What would go on with a token that lasts up to here; then all that is held is masked."""
        self._before = ""
        """The character before what is held: it decides whether a word begins."""
        self._masking = False
        """Whether that character was masked."""

    @property
    def held(self) -> int:
        """How many characters wait for what comes next."""
        return len(self._held)

    def feed(self, piece: str) -> str:
        """Take the next piece; return what is certain by now, possibly nothing."""
        return self._advance(piece, final=False)

    def flush(self) -> str:
        """Return what was held back: the text ends here, and the next piece begins a new one."""
        rest = self._advance("", final=True)
        self._before, self._masking = "", False
        return rest

    def _advance(self, piece: str, *, final: bool) -> str:
        text = f"{self._before}{self._held}{piece}"
        start, end = len(self._before), len(text)
        patterns = self._patterns
        tokens = patterns.tokens(text, start)
        masked_until = start + self._held_masked
        ongoing = set()
        for tail in self._open:
            match = tail.match(text, start + self._held_masked)
            until = match.end() if match is not None else start
            masked_until = max(masked_until, until)
            if until == end:
                ongoing.add(tail)
        spans = patterns.spans_of_secrets(text, start)
        spans += [(token.start, token.end) for token in tokens]
        if masked_until > start:
            spans.append((start, masked_until))
        merged = merge(spans)
        decided = end if final else patterns.undecided_from(text, start)
        out = self._emit(text, start, decided, merged)
        # Whatever begins in the part that is held will be found again.
        ongoing |= {t.tail for t in tokens if t.end == end and t.start < decided}
        masked_until = max([masked_until, *(until for at, until in merged if at < decided)])
        self._open = set() if final else ongoing
        self._held, self._held_masked = text[decided:], max(0, masked_until - decided)
        if decided > start:
            self._before = text[decided - 1]
        return out

    def _emit(self, text: str, start: int, decided: int, spans: list[Span]) -> str:
        if not spans:
            if decided > start:
                self._masking = False
            return text[start:decided]
        pieces: list[str] = []
        position = start
        for at, until in spans:
            if at >= decided:
                break
            if at > position:
                pieces.append(text[position:at])
                self._masking = False
            if not self._masking:
                pieces.append(MASK)
                self._masking = True
            position = min(until, decided)
        if position < decided:
            pieces.append(text[position:decided])
            self._masking = False
        return "".join(pieces)
