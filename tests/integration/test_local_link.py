"""The link against a real Socket.IO server: connecting, refusals, order, size, loss."""

from __future__ import annotations

import asyncio
import gc
import itertools
import weakref
from typing import Any

import aiohttp
import psutil
import pytest
from pydantic import SecretStr

from executor.modes.local import websocket_client
from executor.modes.local.websocket_client import Link, WebSocketClient
from shared.errors import LinkLost, LinkRejected
from shared.protocol.events import AgentEvent, EventType, NumberedEvent, RunRef
from shared.protocol.local import LocalEvent, RunAck
from tests.fakes.backend import TOKEN, FakeBackend, open_backend
from tests.fakes.wire import open_wire

RUN = RunRef(1, 2)


async def ignore(_event: str, _raw: object) -> dict[str, Any]:
    return {}


def client(url: str, token: str = TOKEN, **options: Any) -> WebSocketClient:
    return WebSocketClient(url, SecretStr(token), **options)


def event(seq: int, content: str = "x") -> NumberedEvent:
    data = {"message_id": "m", "content": content, "offset": 0}
    return NumberedEvent(RUN, seq, AgentEvent(EventType.LLM_STREAM, data))


async def test_events_arrive_in_order_and_each_gets_its_ack() -> None:
    async with asyncio.timeout(30), open_backend() as backend:
        async with client(backend.url).connect(ignore) as link:
            answers = [await link.send_event(event(seq)) for seq in range(1, 301)]
            acks = await asyncio.gather(*answers)
        assert acks == [RunAck(success=True, acked=seq) for seq in range(1, 301)]
        assert backend.seqs(2) == list(range(1, 301))


@pytest.mark.parametrize("prefix", ["", "Bearer ", "bearer  "])
async def test_a_token_is_accepted_with_and_without_bearer(prefix: str) -> None:
    async with (
        asyncio.timeout(30),
        open_backend() as backend,
        client(backend.url, prefix + TOKEN).connect(ignore),
    ):
        assert len(backend.connections) == 1


async def test_a_wrong_token_is_a_rejection_with_the_backends_words() -> None:
    async with asyncio.timeout(30), open_backend() as backend:
        with pytest.raises(LinkRejected, match="the token is not known here") as caught:
            async with client(backend.url, "wrong-token").connect(ignore):
                pass
        assert "wrong-token" not in str(caught.value)


async def test_nobody_there_is_a_loss_with_the_systems_reason() -> None:
    async with asyncio.timeout(30), open_wire(0) as wire:
        await wire.refuse()
        with pytest.raises(LinkLost, match=r"cannot be reached: Connection refused"):
            async with client(f"http://127.0.0.1:{wire.port}").connect(ignore):
                pass


async def test_a_backend_that_says_nothing_is_given_up_in_time() -> None:
    async with asyncio.timeout(30), open_backend() as backend, open_wire(backend.port) as wire:
        wire.freeze()
        mute = client(f"http://127.0.0.1:{wire.port}", connect_timeout_s=0.05)
        with pytest.raises(LinkLost, match=r"did not answer within 0\.05 s"):
            async with mute.connect(ignore):
                pass


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>", "but not as a backend"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answered HTTP 404"),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", "answered HTTP 502"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "closed the connection|does not speak"),
        (b"", "closed the connection"),
    ],
)
async def test_something_else_on_that_port_is_a_loss_that_a_person_understands(
    answer: bytes, says: str
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    async with asyncio.timeout(30):
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            with pytest.raises(LinkLost, match=says):
                async with client(f"http://127.0.0.1:{port}").connect(ignore):
                    pass


async def test_tls_to_a_plain_server_says_so() -> None:
    async with asyncio.timeout(30), open_backend() as backend:
        with pytest.raises(LinkLost, match="does not speak TLS"):
            async with client(backend.url.replace("http", "https")).connect(ignore):
                pass


async def test_messages_take_effect_in_the_order_in_which_they_came() -> None:
    seen: list[Any] = []

    async def receive(_event: str, raw: object) -> dict[str, Any]:
        seen.append(raw)
        await asyncio.sleep(0)
        return {"number": raw}

    async with asyncio.timeout(30), open_backend() as backend:
        async with client(backend.url).connect(receive):
            calls = [backend.send(LocalEvent.DISPATCH, {"n": n}) for n in range(50)]
            answers = await asyncio.gather(*calls)
        assert seen == [{"n": n} for n in range(50)]
        assert answers == [{"number": {"n": n}} for n in range(50)]


async def test_a_handler_that_raises_is_answered_and_ends_nothing() -> None:
    async def receive(_event: str, raw: object) -> dict[str, Any]:
        if raw == {"bad": 1}:
            raise RuntimeError("secret detail")
        return {"fine": True}

    async with asyncio.timeout(30), open_backend() as backend, client(backend.url).connect(receive):
        answer = await backend.send(LocalEvent.DISPATCH, {"bad": 1})
        assert (answer["success"], answer["code"]) == (False, "internal")
        assert "secret" not in str(answer)
        assert await backend.send(LocalEvent.DISPATCH, {}) == {"fine": True}


async def test_an_ack_that_cannot_be_handled_is_logged_as_a_fault_of_ours_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard = asyncio.Event()

    def fail(_: object) -> None:
        heard.set()
        raise RuntimeError("a fault")

    async with (
        asyncio.timeout(30),
        open_backend() as backend,
        client(backend.url).connect(ignore) as link,
    ):
        await link.emit(LocalEvent.HEARTBEAT, {}, on_ack=fail)
        await heard.wait()
        [line] = [record for record in caplog.records if record.levelname == "ERROR"]
        assert line.exc_info is not None
        assert isinstance(line.exc_info[1], RuntimeError)
        await (await link.send_event(event(1)))


@pytest.mark.parametrize("payload", [(), (None,), ([1],), ("text",), ({}, {"extra": 1})])
async def test_odd_payloads_reach_the_handler_as_they_are(payload: tuple[Any, ...]) -> None:
    seen: list[object] = []

    async def receive(_event: str, raw: object) -> dict[str, Any]:
        seen.append(raw)
        return {}

    async with asyncio.timeout(30), open_backend() as backend, client(backend.url).connect(receive):
        await backend.send(LocalEvent.CLOSE, *payload)
    # The wire does not tell None from nothing at all.
    assert seen in ([payload[0] if len(payload) == 1 else list(payload)], [[]])


async def test_an_ack_takes_effect_before_the_message_that_came_after_it() -> None:
    order: list[str] = []

    async def receive(event: str, _raw: object) -> dict[str, Any]:
        order.append(event)
        return {}

    async with asyncio.timeout(30), open_backend() as backend:

        def register_ack(_payload: dict[str, Any]) -> dict[str, Any]:
            sends.append(asyncio.ensure_future(backend.send(LocalEvent.DISPATCH, {})))
            return {"success": True}

        sends: list[asyncio.Future[Any]] = []
        backend.register_ack = register_ack
        async with client(backend.url).connect(receive) as link:
            await link.call(
                LocalEvent.REGISTER, {}, timeout_s=5, read=lambda _: order.append("ack")
            )
            await sends[0]
    assert order == ["ack", LocalEvent.DISPATCH]


async def test_a_call_without_an_answer_ends_in_time() -> None:
    async with (
        asyncio.timeout(30),
        open_backend(FakeBackend.silent()) as backend,
        client(backend.url).connect(ignore) as link,
    ):
        with pytest.raises(TimeoutError):
            await link.call(LocalEvent.REGISTER, {}, timeout_s=0.01, read=lambda raw: raw)


async def test_a_cut_ends_calls_events_and_waiting_with_one_cause() -> None:
    async with (
        asyncio.timeout(30),
        open_backend(FakeBackend.silent()) as backend,
        open_wire(backend.port) as wire,
        client(f"http://127.0.0.1:{wire.port}").connect(ignore) as link,
    ):
        answer = await link.send_event(event(1))
        call = asyncio.ensure_future(
            link.call(LocalEvent.REGISTER, {}, timeout_s=60, read=lambda raw: raw)
        )
        await backend.expect(LocalEvent.REGISTER)
        wire.cut()
        with pytest.raises(LinkLost, match="connection to the backend ended"):
            await link.wait_lost()
        with pytest.raises(LinkLost):
            await call
        with pytest.raises(LinkLost):
            await link.send_event(event(2))
        with pytest.raises(asyncio.CancelledError):
            await answer


async def test_a_lost_link_is_left_to_its_owner_and_not_made_again_by_the_library() -> None:
    async with (
        asyncio.timeout(30),
        open_backend() as backend,
        open_wire(backend.port) as wire,
        client(f"http://127.0.0.1:{wire.port}").connect(ignore) as link,
    ):
        wire.cut()
        with pytest.raises(LinkLost):
            await link.wait_lost()
        # The library decides about it before it stops reading.
        while "_read_loop_websocket" in (tasks := names_of_tasks()):  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert "_handle_reconnect" not in tasks


def names_of_tasks() -> set[str]:
    """The functions that tasks carry out at the moment, without their classes."""
    return {
        str(getattr(task.get_coro(), "__qualname__", "")).rpartition(".")[2]
        for task in asyncio.all_tasks()
    }


async def test_acks_that_never_come_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("executor.modes.local.websocket_client.MAX_UNANSWERED", 20)
    async with (
        asyncio.timeout(30),
        open_backend(FakeBackend.silent()) as backend,
        client(backend.url).connect(ignore) as link,
    ):
        answers = [weakref.ref(await link.send_event(event(seq))) for seq in range(1, 101)]
        while len(backend.seqs(2)) < 100:
            await backend.expect(LocalEvent.CHAT_CHUNK)
        gc.collect()
        assert sum(answer() is not None for answer in answers) <= 20


async def test_a_backend_that_closes_the_connection_ends_the_link() -> None:
    async with (
        asyncio.timeout(30),
        open_backend() as backend,
        client(backend.url).connect(ignore) as link,
    ):
        await backend.kick()
        with pytest.raises(LinkLost):
            await link.wait_lost()


async def congest(link: Link) -> int:
    """Send until the transport takes no more; returns how many events it has taken."""
    for seq in itertools.count(1):
        try:
            async with asyncio.timeout(0.2):
                await link.send_event(event(seq, "x" * 200_000))
        except TimeoutError:
            return seq - 1
    raise AssertionError


async def test_closing_a_congested_connection_leaves_nothing_behind() -> None:
    async with asyncio.timeout(30), open_backend() as backend, open_wire(backend.port) as wire:
        async with client(f"http://127.0.0.1:{wire.port}").connect(ignore) as link:
            wire.freeze()
            await congest(link)
        # Nothing is left of the socket, although what it holds can never be sent.
        ends = [c.raddr for c in psutil.Process().net_connections("tcp") if c.raddr]
        assert ("127.0.0.1", wire.port) not in ends
        assert not [task for task in asyncio.all_tasks() if "AsyncClient" in repr(task)]


async def test_a_goodbye_that_takes_too_long_leaves_no_connection_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(websocket_client, "CLOSE_TIMEOUT_S", 0.0)  # as on a machine that is busy
    async with (
        asyncio.timeout(30),
        open_backend() as backend,
        client(backend.url).connect(ignore),
    ):
        pass
    connections = [one for one in gc.get_objects() if type(one) is aiohttp.connector.Connection]
    assert [one for one in connections if one._protocol is not None] == []


async def test_closing_survives_being_cancelled() -> None:
    async with asyncio.timeout(30), open_backend() as backend:
        opened = asyncio.Event()

        async def hold() -> None:
            async with client(backend.url).connect(ignore):
                opened.set()
                await asyncio.Event().wait()

        holder = asyncio.create_task(hold())
        await opened.wait()
        holder.cancel()
        await asyncio.sleep(0)
        holder.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holder
        await backend.disconnected.wait()
        assert not backend.connections


async def test_messages_that_wait_when_the_link_is_closed_still_go_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("executor.modes.local.websocket_client.CLOSE_TIMEOUT_S", 5)
    async with asyncio.timeout(30), open_backend() as backend, open_wire(backend.port) as wire:
        async with client(f"http://127.0.0.1:{wire.port}").connect(ignore) as link:
            wire.freeze()
            sent = await congest(link)
            await link.emit(LocalEvent.UNREGISTER, {"executor_id": "e"})
            wire.thaw()
        assert await backend.expect(LocalEvent.UNREGISTER) == {"executor_id": "e"}
        assert backend.seqs(2) == list(range(1, sent + 1))


async def test_a_message_of_ten_megabytes_does_not_cost_the_connection() -> None:
    seen = asyncio.Queue[int]()

    async def receive(_event: str, raw: object) -> dict[str, Any]:
        assert isinstance(raw, dict)
        seen.put_nowait(len(raw["prompt"]))
        return {"accepted": False}

    async with (
        asyncio.timeout(50),
        open_backend() as backend,
        client(backend.url).connect(receive) as link,
    ):
        answer = await backend.send(LocalEvent.DISPATCH, {"prompt": "x" * 10_000_000})
        assert answer == {"accepted": False}
        assert await seen.get() == 10_000_000
        await link.emit(LocalEvent.HEARTBEAT, {})
        await backend.expect(LocalEvent.HEARTBEAT)


async def test_a_message_beyond_the_limit_ends_the_link_and_says_why() -> None:
    async with (
        asyncio.timeout(50),
        open_backend() as backend,
        client(backend.url).connect(ignore) as link,
    ):
        await backend.emit(LocalEvent.DISPATCH, {"prompt": "x" * (33 << 20)})
        with pytest.raises(LinkLost, match="larger than the 32 MiB allowed"):
            await link.wait_lost()


async def test_text_goes_out_as_it_is_and_half_a_character_does_no_harm() -> None:
    async with asyncio.timeout(30), open_backend() as backend:
        async with client(backend.url).connect(ignore) as link:
            ack = await (await link.send_event(event(1, "naïve 中文 😀 \ud800 end")))
            assert ack == RunAck(success=True, acked=1)
        payload = await backend.expect(LocalEvent.CHAT_CHUNK)
        assert payload["chunk"] == "naïve 中文 😀 \ufffd end"


async def test_garbage_on_an_open_connection_is_ignored() -> None:
    async with (
        asyncio.timeout(30),
        open_backend() as backend,
        client(backend.url).connect(ignore) as link,
    ):
        engine_sid = next(iter(backend.sio.eio.sockets))
        for junk in ("9", "2/local-executor,{", "2/local-executor,7", "3/local-executor,0[]"):
            await backend.sio.eio.send(engine_sid, junk)
        await link.emit(LocalEvent.HEARTBEAT, {})
        await backend.expect(LocalEvent.HEARTBEAT)
