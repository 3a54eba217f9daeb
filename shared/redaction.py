"""Masking of secrets in text that leaves the process: log lines above all.

Two nets: the values this process knows, in every form in which they travel, and the shapes of
well-known tokens, for values nobody told us about.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote, quote_plus

MASK: Final = "***"

MIN_SECRET_LENGTH: Final = 6
"""Shorter values are not masked: they occur in ordinary words and would shred every line."""

MAX_RUN_SECRETS: Final = 256
"""How many secrets of runs are remembered; the oldest is forgotten first.

Every line is searched for every form of every secret, so the number has to be bounded. At 256 a
line costs about 0.2 ms, on the log's own thread.
"""

_SHAPES: Final = re.compile(
    r"""
      sk-ant-[\w-]{8,}                                    # Anthropic
    | gh[pousr]_\w{16,} | github_pat_\w{20,}              # GitHub
    | glpat-[\w-]{16,}                                    # GitLab
    | xox[abeoprs]-[\w-]{10,}                             # Slack
    | (?:AKIA|ASIA)[0-9A-Z]{16}                           # AWS
    | eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+                # JSON Web Token
    | (?<=\b[Bb]earer\ )[\w.~+/=-]{8,}                    # Authorization header
    | (?<=\b[Bb]asic\ )(?=[a-z]*[A-Z0-9+/=])[\w+/=-]{8,}
    | (?<=://)(?!git@)[^\s/'"\\]+(?=@)                    # user and password in a URL
    """,
    re.VERBOSE,
)


class Redactor:
    """Replaces secrets in text by ``***``. May be used from any thread.

    Args:
        permanent: Secrets of this process, never forgotten.
    """

    def __init__(self, permanent: Iterable[str] = ()) -> None:
        self._lock = threading.Lock()
        self._permanent = frozenset(s for s in permanent if len(s) >= MIN_SECRET_LENGTH)
        self._of_runs: dict[str, None] = {}
        self._forms: tuple[str, ...] = ()
        self._compile()

    @property
    def permanent(self) -> frozenset[str]:
        """The secrets of this process."""
        return self._permanent

    def add(self, secret: str) -> None:
        """Mask *secret* from now on; see :data:`MIN_SECRET_LENGTH` and :data:`MAX_RUN_SECRETS`."""
        self.add_many((secret,))

    def add_many(self, secrets: Iterable[str]) -> None:
        """Mask all of *secrets* from now on."""
        with self._lock:
            before = list(self._of_runs)
            for secret in secrets:
                if len(secret) >= MIN_SECRET_LENGTH and secret not in self._permanent:
                    self._of_runs.pop(secret, None)  # the newest comes last
                    self._of_runs[secret] = None
            while len(self._of_runs) > MAX_RUN_SECRETS:
                del self._of_runs[next(iter(self._of_runs))]
            if list(self._of_runs) != before:
                self._compile()

    def redact(self, text: str) -> str:
        """Return *text* without the known secrets and without what looks like a token."""
        for form in self._forms:
            if form in text:
                text = text.replace(form, MASK)
        return _SHAPES.sub(MASK, text)

    def _compile(self) -> None:
        forms = {form for secret in (*self._permanent, *self._of_runs) for form in forms_of(secret)}
        # Longest first: a secret that contains another one must not leave its rest behind.
        self._forms = tuple(sorted(forms, key=len, reverse=True))


def forms_of(secret: str) -> Iterator[str]:
    """The secret as it stands, in URLs, in JSON and inside Base64."""
    # A request may carry half a surrogate pair, which must not end the redaction of the rest.
    raw = secret.encode("utf-8", "surrogatepass")
    yield secret
    yield quote(raw, safe="")
    yield quote_plus(raw)
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    for offset in range(3):
        # What precedes the secret ("user:") decides where its bits fall; the characters at the
        # two ends also carry bits of the neighbours and are left out.
        encoded = base64.b64encode(b"\0" * offset + raw)
        inner = encoded[-(-offset * 8 // 6) : (offset + len(raw)) * 8 // 6].decode()
        yield inner
        yield inner.translate(_URL_SAFE)


_URL_SAFE: Final = str.maketrans("+/", "-_")
