"""``/api/v1/sessions``: read sessions."""

from __future__ import annotations

from fastapi import APIRouter

from executor_manager.api.schemas import SessionView
from executor_manager.api.services import Injected
from shared.web.errors import NotFound

router = APIRouter(prefix="/api/v1/sessions", tags=["sessions"])


@router.get("/{session_id}")
async def get_session(session_id: str, services: Injected) -> SessionView:
    """A session and its tasks."""
    session = await services.store.sessions.get(session_id)
    if session is None:
        raise NotFound("there is no such session", hint="a task's answer names its session")
    return SessionView.of(session, await services.store.runs.of_session(session_id))
