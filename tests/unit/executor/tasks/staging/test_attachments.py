from __future__ import annotations

import asyncio
import base64
import stat
from pathlib import Path
from typing import Any

import pytest

from executor.tasks.staging.attachments import Attachments
from executor.tasks.staging.fetching import Fetcher, origin
from shared.errors import Refusal, RunError
from shared.protocol.execution import ExecutionRequest, read_execution_request
from shared.status import ErrorCode
from tests.fakes.given_files import FileServer, serve

TOKEN = "s3cr3t-token"


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def inline(filename: str, content: bytes = b"hello", **fields: Any) -> dict[str, Any]:
    encoded = base64.b64encode(content).decode()
    return {"filename": filename, "content_base64": encoded, **fields}


def request(*attachments: dict[str, Any], **fields: Any) -> ExecutionRequest:
    return read_execution_request(
        {"task_id": 7, "subtask_id": 1, "prompt": "go", "attachments": list(attachments), **fields}
    )


def placing(max_bytes: int = 10_000, **arguments: Any) -> Attachments:
    fetcher = Fetcher(**{"backend_url": None, "environ": {}, **arguments})
    return Attachments(fetcher, max_bytes=max_bytes)


@pytest.fixture
def session(tmp_path: Path) -> Path:
    path = tmp_path / "7"
    path.mkdir()
    return path


backend = pytest.fixture(serve, name="backend")
stranger = pytest.fixture(serve, name="stranger")


async def test_inline_content_lands_in_the_attachments_folder(session: Path) -> None:
    (path,) = await placing().place(request(inline("a.txt")), session)

    assert path == session / "attachments" / "a.txt"
    assert path.read_bytes() == b"hello"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert names_in(path.parent) == ["a.txt"]


async def test_what_a_killed_executor_left_half_written_is_removed(session: Path) -> None:
    folder = session / "attachments"
    (folder / ".part-of-the-agent").mkdir(parents=True)
    (folder / ".part-0123").write_text("half")

    await placing().place(request(inline("a.txt")), session)

    assert names_in(folder) == [".part-of-the-agent", "a.txt"]


async def test_without_attachments_there_is_no_folder(session: Path) -> None:
    assert await placing().place(request(), session) == ()
    assert names_in(session) == []


async def test_names_that_collide_get_numbers(session: Path) -> None:
    attachments = [inline("a.txt", b"1"), inline("x/a.txt", b"2"), inline("A.TXT", b"3")]

    paths = await placing().place(request(*attachments), session)

    assert [path.name for path in paths[:2]] == ["a.txt", "a-2.txt"]
    assert len({path.name.casefold() for path in paths}) == 3
    assert [path.read_bytes() for path in paths] == [b"1", b"2", b"3"]


async def test_the_same_attachment_of_a_later_message_is_not_stored_twice(session: Path) -> None:
    first = await placing().place(request(inline("a.txt")), session)
    second = await placing().place(request(inline("a.txt")), session)

    assert first == second
    assert names_in(session / "attachments") == ["a.txt"]


async def test_a_file_that_the_agent_has_changed_is_not_replaced(session: Path) -> None:
    (first,) = await placing().place(request(inline("a.txt")), session)
    first.write_text("edited")

    (second,) = await placing().place(request(inline("a.txt")), session)

    assert (first.read_text(), second.name) == ("edited", "a-2.txt")


async def test_a_link_in_a_files_place_is_not_followed(session: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    (session / "attachments").mkdir()
    (session / "attachments" / "a.txt").symlink_to(outside)

    (path,) = await placing().place(request(inline("a.txt")), session)

    assert path.name == "a-2.txt"
    assert not outside.exists()


async def test_a_link_in_the_folders_place_is_refused(session: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (session / "attachments").symlink_to(tmp_path / "outside")

    with pytest.raises(RunError, match="cannot be used") as raised:
        await placing().place(request(inline("a.txt")), session)

    assert raised.value.error_code is ErrorCode.ATTACHMENT_FAILED
    assert names_in(tmp_path / "outside") == []


@pytest.mark.parametrize(
    ("attachment", "words"),
    [
        ({"filename": "a.txt", "content_base64": "not base64!"}, "not valid Base64"),
        ({"filename": "a.txt", "content_base64": "é"}, "not valid Base64"),
        (inline("a.txt", size=4), "larger than 4 bytes"),
        (inline("a.txt", size=6), "5 bytes instead of the 6"),
        (inline("a.txt", b"x" * 101), "larger than 100 bytes"),
    ],
)
async def test_unusable_content_fails_naming_the_file_and_leaves_nothing(
    session: Path, attachment: dict[str, Any], words: str
) -> None:
    with pytest.raises(RunError, match=words) as raised:
        await placing(max_bytes=100).place(request(attachment), session)

    assert raised.value.error_code is ErrorCode.ATTACHMENT_FAILED
    assert "'a.txt'" in str(raised.value)
    assert names_in(session / "attachments") == []


@pytest.mark.parametrize(
    ("attachment", "field_name"),
    [
        ({"filename": "a", "url": "file:///etc/passwd"}, "attachments.0.url"),
        ({"filename": "a", "url": "ftp://h/s3cr3t"}, "attachments.0.url"),
        ({"filename": "a", "url": "/files/a"}, "attachments.0.url"),
        ({"filename": "a", "url": "http://[::1/a"}, "attachments.0.url"),
        ({"filename": "a", "url": "http://h/a", "size": 101}, "attachments.0.size"),
    ],
)
def test_what_cannot_be_fetched_is_refused_by_name(
    attachment: dict[str, Any], field_name: str
) -> None:
    with pytest.raises(Refusal, match=field_name) as raised:
        placing(max_bytes=100).check(request(attachment))

    assert raised.value.error_code is ErrorCode.INVALID_REQUEST
    assert "s3cr3t" not in str(raised.value)


async def test_a_relative_address_is_fetched_from_the_backend_with_its_token(
    session: Path, backend: FileServer
) -> None:
    attachments = placing(backend_url=backend.url.replace("http", "ws") + "/prefix")
    wanted = request({"filename": "a.bin", "url": "/files/a", "size": 1000}, auth_token=TOKEN)

    attachments.check(wanted)
    (path,) = await attachments.place(wanted, session)

    assert path.read_bytes() == b"x" * 1000
    assert backend.authorizations == [f"Bearer {TOKEN}"]


async def test_the_token_goes_to_no_other_origin(
    session: Path, backend: FileServer, stranger: FileServer
) -> None:
    attachments = placing(backend_url=backend.url)
    wanted = {"filename": "a.bin", "url": f"{stranger.url}/files/a"}

    await attachments.place(request(wanted, auth_token=TOKEN), session)

    assert stranger.authorizations == [None]


async def test_the_token_does_not_follow_a_redirect_to_another_origin(
    session: Path, backend: FileServer, stranger: FileServer
) -> None:
    backend.redirect_to = f"{stranger.url}/files/a"
    attachments = placing(backend_url=backend.url)
    wanted = {"filename": "a.bin", "url": "/files/redirect"}

    (path,) = await attachments.place(request(wanted, auth_token=TOKEN), session)

    assert path.stat().st_size == 1000
    assert backend.authorizations == [f"Bearer {TOKEN}"]
    assert stranger.authorizations == [None]


async def test_a_request_that_names_another_backend_gets_no_token_sent(
    session: Path, backend: FileServer, stranger: FileServer
) -> None:
    attachments = placing(backend_url=backend.url)
    wanted = {"filename": "a.bin", "url": "/files/a"}

    await attachments.place(request(wanted, auth_token=TOKEN, backend_url=stranger.url), session)

    assert stranger.authorizations == [None]
    assert backend.authorizations == []


async def test_the_token_of_another_backend_is_not_sent_to_ours(
    session: Path, backend: FileServer, stranger: FileServer
) -> None:
    wanted = {"filename": "a.bin", "url": f"{backend.url}/files/a"}

    await placing(backend_url=backend.url).place(
        request(wanted, auth_token=TOKEN, backend_url=stranger.url), session
    )

    assert backend.authorizations == [None]


async def test_without_a_backend_of_its_own_the_token_goes_to_the_requests(
    session: Path, backend: FileServer, stranger: FileServer
) -> None:
    files = [
        {"filename": "a.bin", "url": "/files/a"},
        {"filename": "b.bin", "url": f"{stranger.url}/files/b"},
    ]

    await placing().place(
        request(*files, auth_token=TOKEN, backend_url=f"{backend.url}/api"), session
    )

    assert backend.authorizations == [f"Bearer {TOKEN}"]
    assert stranger.authorizations == [None]


@pytest.mark.parametrize(
    ("name", "redirect_to", "words"),
    [
        ("missing", "", "answered 404"),
        ("cut", "", "download failed"),
        ("redirect", "file:///etc/passwd", "neither http nor https"),
        ("redirect", "/files/redirect", "redirected too often"),
        ("redirect", "http://[::1/", "neither http nor https"),
        ("large", "", "larger than 999 bytes"),
    ],
)
async def test_a_failed_download_says_why_and_leaves_nothing(
    session: Path, backend: FileServer, name: str, redirect_to: str, words: str
) -> None:
    backend.redirect_to = redirect_to
    attachments = placing(backend_url=backend.url, max_bytes=999)

    with pytest.raises(RunError, match=words) as raised:
        await attachments.place(
            request({"filename": "a.bin", "url": f"/files/{name}?sig=s3cr3t"}), session
        )

    assert raised.value.error_code is ErrorCode.ATTACHMENT_FAILED
    assert "s3cr3t" not in str(raised.value)
    assert names_in(session / "attachments") == []


async def test_a_server_that_cannot_be_reached_fails_the_attachment(
    session: Path, unused_tcp_port: int
) -> None:
    wanted = request({"filename": "a", "url": f"http://127.0.0.1:{unused_tcp_port}/a"})

    with pytest.raises(RunError, match="download failed"):
        await placing().place(wanted, session)


async def test_a_download_that_hangs_ends_by_its_timeout(
    session: Path, backend: FileServer
) -> None:
    attachments = placing(backend_url=backend.url, timeout_s=0.2)

    with pytest.raises(RunError, match="took too long"):
        await attachments.place(request({"filename": "a", "url": "/files/hang"}), session)

    assert names_in(session / "attachments") == []


async def test_a_cancelled_download_leaves_nothing(session: Path, backend: FileServer) -> None:
    attachments = placing(backend_url=backend.url)
    placed = asyncio.create_task(
        attachments.place(request({"filename": "a", "url": "/files/hang"}), session)
    )
    async with asyncio.timeout(30):
        await backend.requested.wait()

    placed.cancel()
    with pytest.raises(asyncio.CancelledError):
        await placed

    assert names_in(session / "attachments") == []


async def test_downloads_go_through_the_proxy_of_the_environment(
    session: Path, backend: FileServer
) -> None:
    attachments = placing(environ={"http_proxy": backend.url, "NO_PROXY": "direct.invalid"})

    # The server answers for any host, as a proxy would: a proxied request names it in full.
    (path,) = await attachments.place(
        request({"filename": "a", "url": "http://nowhere.invalid/files/a"}), session
    )

    assert path.stat().st_size == 1000


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://H/x", "https://h:443"),
        ("wss://h:9/x", "https://h:9"),
        ("ws://h", "http://h:80"),
        ("http://u:p@h:80/", "http://h:80"),
        ("file:///x", None),
        ("/x", None),
        ("", None),
        ("http://h:port/", None),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, expected: str | None) -> None:
    assert origin(url) == expected
