"""Being somebody else for a moment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

NOBODY = 65_534


@contextmanager
def another_user() -> Iterator[None]:
    """This process may do what a user may who owns nothing; skips the test unless root runs it.

    What is imported meanwhile may not be found: call once before what is to be tested.
    """
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("NOT TESTED, another user's files: only root can be somebody else")
    try:
        os.seteuid(NOBODY)
    except OSError as exc:  # as in a container that knows one user only
        pytest.skip(f"NOT TESTED, another user's files: {exc}")
    try:
        yield
    finally:
        os.seteuid(0)
