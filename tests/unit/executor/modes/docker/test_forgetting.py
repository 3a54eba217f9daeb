"""Sessions are forgotten when their folders are gone, not when a disk is."""

from __future__ import annotations

from pathlib import Path

from executor.delivery.session_rows import SessionRecord
from executor.delivery.state import StateStore
from executor.modes.docker.forgetting import forget_gone


async def test_nothing_is_forgotten_while_there_is_no_folder_at_all(tmp_path: Path) -> None:
    root = tmp_path / "workspace"
    root.mkdir()
    store = await StateStore.open(tmp_path / "docker.db")
    store.save_session(SessionRecord("1", "claude_code", None, root / "1", None))
    await store.submit(lambda db: db.execute("UPDATE sessions SET updated_at = '2000'").close())

    await forget_gone(store, root)
    assert await store.session("1") is not None

    (root / "2").mkdir()
    await forget_gone(store, root)
    assert await store.session("1") is None
    await store.close()
