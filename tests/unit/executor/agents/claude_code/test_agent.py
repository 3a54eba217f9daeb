from __future__ import annotations

import gc

from tests.fakes.claude import claude_agent


async def test_the_loaded_sdk_is_left_out_of_garbage_collections() -> None:
    try:
        gc.unfreeze()
        await claude_agent().load()
        assert gc.get_freeze_count() > 0
        assert gc.isenabled()
    finally:
        gc.unfreeze()
