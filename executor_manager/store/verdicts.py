"""The data of verdicts that no node has told."""

from __future__ import annotations

from typing import Any


def cancelled_data(reason: str | None) -> dict[str, Any]:
    """The data of a ``lifecycle.cancelled`` that no node has told."""
    data: dict[str, Any] = {"workspace": None, "statistics": {}}
    return data if reason is None else {"reason": reason, **data}


def failed_data(error: str, error_code: str) -> dict[str, Any]:
    """The data of a ``lifecycle.failed`` that no node has told."""
    return {"error": error, "error_code": error_code, "workspace": None, "statistics": {}}
