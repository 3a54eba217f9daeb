"""What becomes of runs when connections end, executors stop or runs are cancelled meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from shared.protocol.local import LocalEvent
from tests.fakes.executor_client import run_fields, stay_silent
from tests.fakes.manager import RunningManager, running_manager

# --- Outages ------------------------------------------------------------------------------------


async def test_a_disconnect_changes_no_run_and_acks_go_on_where_they_were(
    manager: RunningManager,
) -> None:
    async with asyncio.timeout(30):
        async with manager.executor() as executor:
            request = await manager.dispatched(executor)
            await executor.progress(request, 1, "lifecycle.started", {})
        run_id = request["subtask_id"]
        run = await manager.store.runs.get(run_id)
        assert run is not None
        assert (run.state, run.unreachable) == ("running", False)
        async with manager.executor(register=False) as again:
            report = {**run_fields(request, 1), "state": "running", "last_seq": 3}
            ack = await again.register(runs=[report])
            assert ack["acked"] == [
                {
                    "subtask_id": run_id,
                    "attempt": 1,
                    "seq": 1,
                    "unknown": False,
                    "superseded": False,
                }
            ]
            # What was sent before is sent again, then what is new.
            assert (await again.progress(request, 1, "lifecycle.started", {}))["acked"] == 1
            assert (await again.progress(request, 2, "llm.reasoning", {}))["acked"] == 2
        assert len(await manager.store.events.after(run_id, 0)) == 2


async def test_a_register_says_which_runs_are_unknown_or_superseded(
    manager: RunningManager,
) -> None:
    async with asyncio.timeout(30):
        async with manager.executor() as executor:
            request = await manager.dispatched(executor)
        run_id = request["subtask_id"]
        async with manager.executor(register=False) as again:
            ack = await again.register(
                runs=[
                    {"task_id": 1, "subtask_id": 7, "state": "running", "last_seq": 4},
                    {**request, "attempt": 2, "state": "running", "last_seq": 4},
                    {**request, "state": "running", "last_seq": 0},
                ]
            )
            unknown, newer, same = ack["acked"]
            assert (unknown["subtask_id"], unknown["unknown"]) == (7, True)
            assert (newer["attempt"], newer["superseded"]) == (2, True)
            assert (same["subtask_id"], same["seq"]) == (run_id, 0)


@pytest.mark.parametrize("state", ["interrupted", "queued"])
async def test_a_run_that_an_executor_cannot_go_on_with_is_dispatched_again(
    manager: RunningManager, state: str
) -> None:
    async with asyncio.timeout(30):
        async with manager.executor() as executor:
            request = await manager.dispatched(executor, secrets={"/git_token": "T"})
            await executor.progress(request, 1, "lifecycle.started", {})
        async with manager.executor(register=False) as again:
            await again.register(runs=[{**request, "state": state, "last_seq": 1}])
            assert await again.expect(LocalEvent.DISPATCH) == request


async def test_a_running_run_is_not_dispatched_again(manager: RunningManager) -> None:
    async with asyncio.timeout(30):
        async with manager.executor() as executor:
            request = await manager.dispatched(executor)
            await executor.progress(request, 1, "lifecycle.started", {})
        async with manager.executor(register=False) as again:
            await again.register(runs=[{**request, "state": "running", "last_seq": 1}])
            other = await manager.dispatched(again)
            assert other["subtask_id"] != request["subtask_id"]


async def test_an_accepted_run_that_a_returning_executor_does_not_report_is_lost(
    manager: RunningManager,
) -> None:
    async with asyncio.timeout(30):
        async with manager.executor() as executor:
            request = await manager.dispatched(executor)
            await executor.progress(request, 1, "lifecycle.started", {})
        async with manager.executor():
            run = await manager.wait_for(request["subtask_id"], "failed")
            assert run.error_code == "lost"


async def test_a_lost_run_is_requeued_when_its_request_says_so(manager: RunningManager) -> None:
    async with asyncio.timeout(30):
        async with manager.executor() as executor:
            request = await manager.dispatched(executor, on_node_loss="requeue")
            await executor.progress(request, 1, "lifecycle.started", {})
        async with manager.executor() as again:
            second = await again.expect(LocalEvent.DISPATCH)
            assert (second["subtask_id"], second["attempt"]) == (request["subtask_id"], 2)
            late = await again.progress(request, 2, "llm.reasoning", {})
            assert late == {"success": False, "code": "superseded"}
            assert (await again.progress(second, 1, "lifecycle.started", {}))["acked"] == 1


async def test_a_dispatch_whose_answer_never_came_is_repeated_after_the_next_register(
    tmp_path: Path,
) -> None:
    async with asyncio.timeout(30), running_manager(tmp_path, call_timeout_s=3600) as manager:
        async with manager.executor() as executor:
            executor.answers[LocalEvent.DISPATCH] = stay_silent
            request = await manager.dispatched(executor)
        async with manager.executor() as again:
            assert await again.expect(LocalEvent.DISPATCH) == request


async def test_a_dispatch_without_an_answer_is_repeated_on_the_same_connection(
    tmp_path: Path,
) -> None:
    async with (
        asyncio.timeout(30),
        running_manager(tmp_path, call_timeout_s=0.05, poll_s=0.05) as manager,
        manager.executor() as executor,
    ):
        executor.answers[LocalEvent.DISPATCH] = stay_silent
        request = await manager.dispatched(executor)
        executor.answers[LocalEvent.DISPATCH] = {"accepted": True, "duplicate": True}
        assert await executor.expect(LocalEvent.DISPATCH) == request


async def test_a_run_goes_on_after_a_restart_of_the_manager(tmp_path: Path) -> None:
    async with asyncio.timeout(50):
        async with running_manager(tmp_path) as manager, manager.executor() as executor:
            request = await manager.dispatched(executor, secrets={"/git_token": "T"})
            await executor.progress(request, 1, "lifecycle.started", {})
            waiting = await manager.submit(session_id=request["task_id"])
        async with (
            running_manager(tmp_path) as manager,
            manager.executor(register=False) as executor,
        ):
            ack = await executor.register(runs=[{**request, "state": "running", "last_seq": 2}])
            assert ack["acked"][0]["seq"] == 1
            assert (await executor.progress(request, 2, "llm.reasoning", {}))["acked"] == 2
            assert (await executor.result(request, 3, value="ok"))["acked"] == 3
            log = await manager.store.events.after(request["subtask_id"], 0)
            assert [event.sequence for event in log] == [1, 2, 3]
            # The session's next run was kept, too.
            assert (await executor.expect(LocalEvent.DISPATCH))["subtask_id"] == waiting.id


async def test_a_heartbeat_names_the_runs_that_must_stop(manager: RunningManager) -> None:
    async with asyncio.timeout(30), manager.executor() as executor:
        request = await manager.dispatched(executor)
        run_id = request["subtask_id"]
        ack = await executor.beat((run_id, 1), (run_id, 2), ("other", 1))
        assert ack["success"] is True
        assert ack["superseded"] == [
            {"subtask_id": run_id, "attempt": 2},
            {"subtask_id": "other", "attempt": 1},
        ]


# --- Cancelling ---------------------------------------------------------------------------------


async def test_a_cancel_reaches_the_executor_and_its_verdict_counts(
    manager: RunningManager,
) -> None:
    async with asyncio.timeout(30), manager.executor() as executor:
        request = await manager.dispatched(executor)
        await executor.progress(request, 1, "lifecycle.started", {})
        run_id = request["subtask_id"]
        await manager.store.runs.cancel(run_id, "not needed")
        assert await executor.expect(LocalEvent.CANCEL) == {
            "task_id": request["task_id"],
            "subtask_id": run_id,
            "reason": "not needed",
        }
        await executor.result(request, 2, "cancelled", reason="not needed")
        run = await manager.wait_for(run_id, "cancelled")
        assert run.verdict == {"reason": "not needed", "workspace": {}, "statistics": {}}


async def test_a_cancel_of_a_run_that_the_executor_does_not_know_is_recorded_here(
    manager: RunningManager,
) -> None:
    async with asyncio.timeout(30), manager.executor() as executor:
        executor.answers[LocalEvent.CANCEL] = {"success": True, "state": "unknown"}
        request = await manager.dispatched(executor)
        await manager.store.runs.cancel(request["subtask_id"], "why not")
        run = await manager.wait_for(request["subtask_id"], "cancelled")
        assert run.verdict is not None
        assert run.verdict["reason"] == "why not"
        late = await executor.result(request, 1, value="late")
        assert late == {"success": False, "code": "superseded"}


async def test_a_cancel_during_an_outage_is_told_after_the_next_register(
    manager: RunningManager,
) -> None:
    async with asyncio.timeout(30):
        async with manager.executor() as executor:
            request = await manager.dispatched(executor)
            await executor.progress(request, 1, "lifecycle.started", {})
        await manager.store.runs.cancel(request["subtask_id"])
        async with manager.executor(register=False) as again:
            await again.register(runs=[{**request, "state": "interrupted", "last_seq": 1}])
            cancel = await again.expect(LocalEvent.CANCEL)
            assert cancel["subtask_id"] == request["subtask_id"]


async def test_a_run_left_at_a_goodbye_waits_and_is_dispatched_again_at_the_return(
    manager: RunningManager,
) -> None:
    async with asyncio.timeout(30):
        async with manager.executor() as executor:
            request = await manager.dispatched(executor, secrets={"/git_token": "T"})
            waits = {**request, "state": "interrupted", "last_seq": 1}
            finished = await manager.dispatched(executor, on_node_loss="fail")
            await executor.progress(request, 1, "lifecycle.started", {})
            await executor.call(
                LocalEvent.UNREGISTER,
                {
                    "executor_id": "executor-1",
                    "reason": "shutdown",
                    "timestamp": "t",
                    "runs": [waits, {**finished, "state": "finished", "last_seq": 1}],
                },
            )
            left = await manager.get(f"/api/v1/tasks/{request['subtask_id']}")
            assert (left["status"], left["unreachable"]) == ("running", True)
            # Its verdict was on the way, and is not lost.
            told = await manager.get(f"/api/v1/tasks/{finished['subtask_id']}")
            assert (told["status"], told["unreachable"]) == ("claimed", False)
        async with manager.executor(register=False) as again:
            await again.register(runs=[waits, {**finished, "state": "finished", "last_seq": 1}])
            assert await again.expect(LocalEvent.DISPATCH) == request
            assert (await again.result(finished, 1, value="ok"))["acked"] == 1


async def test_an_executor_that_says_goodbye_gets_no_more_runs(manager: RunningManager) -> None:
    async with asyncio.timeout(30), manager.executor() as executor:
        ack = await executor.call(
            LocalEvent.UNREGISTER,
            {"executor_id": "executor-1", "reason": "shutdown", "timestamp": "t"},
        )
        assert ack == {"success": True}
        [node] = await manager.store.nodes.all()
        assert node.status == "offline"
        await manager.submit()
        assert await manager.store.queue.claim(["executor-1"]) is None
