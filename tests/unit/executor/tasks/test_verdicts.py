from __future__ import annotations

import errno

import pytest

from executor.tasks.verdicts import internal
from shared.errors import WegentError
from shared.status import ErrorCode


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_as_such_wherever_it_was_met(number: int) -> None:
    full = OSError(number, "secret words of the system", "/home/somebody/secret")
    wrapped = WegentError("it cannot be started")
    wrapped.__cause__ = full
    for exc in (full, wrapped):
        error = internal(exc)
        assert error.error_code == ErrorCode.WORKSPACE_ERROR
        assert str(error).startswith("the disk of the executor is full (free")


@pytest.mark.parametrize("exc", [OSError(errno.EIO, "secret"), ValueError("secret")])
def test_any_other_surprise_is_internal_and_told_by_its_kind(exc: Exception) -> None:
    error = internal(exc)
    assert error.error_code == ErrorCode.INTERNAL
    assert str(error) == f"internal error: {type(exc).__name__}"
