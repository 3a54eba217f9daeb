"""The error tree: one base, a stable code, a next step.

    WegentError                     internal
    ├── ConfigError                 config_error          the operator must change something
    ├── ProtocolError               invalid_request       a message from outside cannot be used
    ├── LinkError
    │   ├── LinkLost                link_lost             connecting again may succeed
    │   └── LinkRejected            unauthorized          connecting again will be refused too
    ├── Refusal                     (per instance)        a dispatch that is not accepted
    └── RunError                    (per instance)        a run that was accepted and failed

HTTP statuses and exit statuses are mapped at the edges, never stored here.
"""

from __future__ import annotations

from typing import ClassVar

from shared.status import ErrorCode


class WegentError(Exception):
    """Base of every error this project raises on purpose.

    Attributes:
        code: Stable machine-readable identifier; part of the wire contract.
        hint: What the reader can do about it, or ``None``.
    """

    code: ClassVar[str] = "internal"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message} ({self.hint})" if self.hint else message

    @property
    def message(self) -> str:
        """The sentence without the hint."""
        return super().__str__()


class ConfigError(WegentError):
    """A setting is missing or wrong; the message names the variable, never its value."""

    code = "config_error"


class ProtocolError(WegentError):
    """A payload from outside cannot be used.

    Attributes:
        fields: Dotted names of the fields at fault; never their values. Empty when the
            payload is not an object at all.
    """

    code = "invalid_request"

    def __init__(self, message: str, *, fields: tuple[str, ...] = (), hint: str | None = None):
        super().__init__(message, hint=hint)
        self.fields = fields


class LinkError(WegentError):
    """The connection between an executor and its backend failed."""


class LinkLost(LinkError):
    """The connection dropped or could not be made; connecting again may succeed."""

    code = "link_lost"


class LinkRejected(LinkError):
    """The backend refused this executor; connecting again will be refused too."""

    code = "unauthorized"


class Refusal(WegentError):
    """A dispatch is not accepted; nothing was created.

    Attributes:
        error_code: Which of the refusal codes of the local protocol.
        reason: For ``busy``: ``slots`` or ``disk``; otherwise ``None``.
    """

    def __init__(
        self,
        error_code: ErrorCode,
        message: str,
        *,
        reason: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.error_code = error_code
        self.reason = reason


class RunError(WegentError):
    """An accepted run ends as failed.

    Attributes:
        error_code: The ``error_code`` of the verdict.
        details: Further facts for the verdict's ``details``, or ``None``.
    """

    def __init__(
        self,
        error_code: ErrorCode,
        message: str,
        *,
        details: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.error_code = error_code
        self.details = details
