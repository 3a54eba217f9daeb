"""The statuses of the manager's own errors over HTTP."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from executor_manager.store.database import StoreError
from executor_manager.store.questions import (
    AlreadyAnswered,
    NotWaiting,
    QuestionExpired,
    UnknownQuestion,
)
from executor_manager.store.runs import KeyConflict, SessionConflict

STATUS_OF_CODE: Final[Mapping[str, int]] = MappingProxyType(
    {
        SessionConflict.code: 404,  # like one that does not exist: it is none of the caller's
        KeyConflict.code: 409,
        NotWaiting.code: 409,
        UnknownQuestion.code: 409,
        QuestionExpired.code: 409,
        AlreadyAnswered.code: 409,
        StoreError.code: 503,
    }
)
