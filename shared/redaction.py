"""Masking of secrets in what leaves the process: log lines, events, errors.

A process has one :class:`Redactor`. Log lines are masked with all that it knows; what a run tells,
with that run's own secrets and the process's, so that no run's secrets shape another's text.
"""

from __future__ import annotations

import math
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from shared.redaction_stream import StreamRedactor
from shared.secret_patterns import MASK, MIN_SECRET_LENGTH, SecretPatterns, forms_of

__all__ = ["MASK", "MIN_SECRET_LENGTH", "Redactor", "RunRedactor"]

KEPT_FOR_S: Final = 900.0
"""How long the secrets of a run that has ended are known to the logs: longer than any process of it
can still say something."""

MAX_KEPT: Final = 256
"""How many secrets of ended runs are known at most; the oldest is forgotten first.

Every line is searched for every form of every secret. At 256 a line costs about 0.2 ms, on the
log's own thread.
"""

_IN_LOGS: Final = re.compile(
    r"""
      sk-ant-[\w-]{8,}                                    # Anthropic
    | gh[pousr]_\w{16,} | github_pat_\w{20,}              # GitHub
    | glpat-[\w-]{16,}                                    # GitLab
    | xox[abeoprs]-[\w-]{10,}                             # Slack
    | (?:AKIA|ASIA)[0-9A-Z]{16}                           # AWS
    | eyJ(?<![\w-]eyJ)[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+   # JSON Web Token
    | (?<=\b[Bb]earer\ )[\w.~+/=-]{8,}                    # Authorization header
    | (?<=\b[Bb]asic\ )(?=[a-z]*[A-Z0-9+/=])[\w+/=-]{8,}
    | (?<=://)(?!git@)[^\s/'"\\]+(?=@)                    # user and password in a URL
    """,
    re.VERBOSE,
)
"""What looks like a secret in a log: stricter than for an agent's text, since nobody misses it.

Nothing may be tried again and again over the same characters: what is logged may come from anybody,
and a search holds up the whole process.
"""

_FREE_FORM: Final = frozenset({"arguments", "tool_input"})
"""Fields whose own keys come from outside; all other keys are the protocol's."""


class Redactor:
    """Knows the secrets of this process and of its runs. May be used from any thread.

    Args:
        permanent: Secrets of this process, never forgotten.
        clock: Seconds, for forgetting.
    """

    def __init__(
        self, permanent: Iterable[str] = (), *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lock = threading.Lock()
        self._clock = clock
        self._permanent = frozenset(permanent)
        self._of_runs: Counter[str] = Counter()
        self._kept: dict[str, float] = {}
        """Secrets of ended runs, and when they are forgotten; the oldest first."""
        self._forms: dict[str, tuple[str, ...]] = {}
        self._patterns = SecretPatterns()
        self._renew_at = -math.inf
        """When what is known has to be made ready for searching anew."""

    def redact(self, text: str) -> str:
        """Return *text* without any known secret and without what looks like one: for logs."""
        if self._clock() >= self._renew_at:
            with self._lock:
                self._renew()
        return _IN_LOGS.sub(MASK, self._patterns.redact(text))

    def add_many(self, secrets: Iterable[str]) -> None:
        """Mask *secrets* in logs for the next :data:`KEPT_FOR_S` seconds."""
        with self._lock:
            self._keep(secrets)

    def open_run(self, secrets: Iterable[str]) -> RunRedactor:
        """Know a run's *secrets* until it is closed, and in logs for some time after that."""
        held = frozenset(secrets)
        with self._lock:
            self._of_runs.update(held)
            self._renew_at = -math.inf
            patterns = SecretPatterns(self._permanent | held, find_forms=self._forms_of)
        return RunRedactor(patterns, lambda: self._close_run(held))

    def _close_run(self, secrets: frozenset[str]) -> None:
        with self._lock:
            self._of_runs.subtract(secrets)
            self._of_runs = +self._of_runs
            self._keep(secrets)

    def _keep(self, secrets: Iterable[str]) -> None:
        forget_at = self._clock() + KEPT_FOR_S
        for secret in secrets:
            self._kept.pop(secret, None)  # the newest comes last
            self._kept[secret] = forget_at
        self._renew_at = -math.inf
        self._forget()

    def _forget(self) -> None:
        now = self._clock()
        for secret, forget_at in list(self._kept.items()):
            if forget_at > now and len(self._kept) <= MAX_KEPT:
                break
            del self._kept[secret]

    def _renew(self) -> None:
        """Done by whoever logs next, which is the log's own thread, and not where a run begins."""
        self._forget()
        known = self._permanent.union(self._of_runs, self._kept)
        self._forms = {secret: self._forms_of(secret) for secret in known}
        self._patterns = SecretPatterns(known, shapes=False, find_forms=self._forms_of)
        self._renew_at = next(iter(self._kept.values()), math.inf)

    def _forms_of(self, secret: str) -> tuple[str, ...]:
        forms = self._forms.get(secret)
        if forms is None:
            forms = self._forms[secret] = tuple(dict.fromkeys(forms_of(secret)))
        return forms


class RunRedactor:
    """Masks what one run tells; made by :meth:`Redactor.open_run`."""

    def __init__(self, patterns: SecretPatterns, on_close: Callable[[], None]) -> None:
        self._patterns = patterns
        self._on_close: Callable[[], None] | None = on_close

    def redact(self, text: str) -> str:
        """Return *text* without the run's secrets and without what is a token by its looks."""
        return self._patterns.redact(text)

    def redact_data(self, data: Mapping[str, Any], *, intact: frozenset[str]) -> dict[str, Any]:
        """Return an event's *data* with every string in it masked, at any depth.

        Keys stay as they are, but for those of a tool's arguments.

        Args:
            intact: Fields at the top whose values stay as they are too.
        """
        return {
            key: value if key in intact else self._masked(value, keys=key in _FREE_FORM)
            for key, value in data.items()
        }

    def stream(self) -> StreamRedactor:
        """A filter for one text that comes in pieces."""
        return StreamRedactor(self._patterns)

    def close(self) -> None:
        """The run has ended: forget its secrets here. Harmless when repeated."""
        on_close, self._on_close = self._on_close, None
        self._patterns = SecretPatterns()
        if on_close is not None:
            on_close()

    def _masked(self, value: Any, *, keys: bool) -> Any:
        if isinstance(value, str):
            return self._patterns.redact(value)
        if isinstance(value, Mapping):
            return {
                self._patterns.redact(key) if keys and isinstance(key, str) else key: self._masked(
                    item, keys=keys
                )
                for key, item in value.items()
            }
        if isinstance(value, list | tuple):
            return [self._masked(item, keys=keys) for item in value]
        return value
