"""Where a new version may come from, and what is refused."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from executor.network.access import NetworkAccess
from executor.updating.errors import UpdateError
from executor.updating.source import Source
from shared.errors import ConfigError
from tests.fakes.authority import Authority, behind_tls
from tests.fakes.file_server import FileServer, file_server
from tests.fakes.programs import NAME, checksum_line, put, sha256

CONTENT = os.urandom(600_000)  # more than two chunks


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as serving:
        yield serving


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority")


class Fetched:
    """Fetches into a new file, and remembers the progress."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.progress: list[tuple[int, int | None]] = []

    async def __call__(self, text: str | Path, checksum: str | None = None) -> bytes:
        source = Source(str(text), sha256=checksum, network=NetworkAccess({}))
        await source.fetch(
            self.target,
            await source.checksum(),
            lambda done, total: self.progress.append((done, total)),
        )
        return self.target.read_bytes()


@pytest.fixture
def fetch(tmp_path: Path) -> Fetched:
    return Fetched(tmp_path / "fetched")


async def test_a_file_is_fetched_with_the_checksum_beside_it(
    fetch: Fetched, tmp_path: Path
) -> None:
    assert await fetch(put(tmp_path / "new", CONTENT)) == CONTENT
    assert fetch.progress[-1] == (len(CONTENT), len(CONTENT))
    assert len(fetch.progress) > 1


async def test_an_address_is_fetched_with_the_checksum_beside_it(
    fetch: Fetched, server: FileServer
) -> None:
    server.files = {f"a/{NAME}?k=v": CONTENT, f"a/{NAME}.sha256?k=v": checksum_line(CONTENT)}

    assert await fetch(server.url(f"a/{NAME}?k=v")) == CONTENT
    assert fetch.progress[-1] == (len(CONTENT), len(CONTENT))


async def test_a_checksum_that_is_given_needs_no_file_beside_it(
    fetch: Fetched, server: FileServer
) -> None:
    server.files = {NAME: CONTENT}

    assert await fetch(server.url(NAME), sha256(CONTENT).upper()) == CONTENT
    assert server.requested == [NAME]


async def test_a_redirect_is_followed(fetch: Fetched, server: FileServer) -> None:
    server.files = {"elsewhere": CONTENT}
    server.redirects = {NAME: "/elsewhere"}

    assert await fetch(server.url(NAME), sha256(CONTENT)) == CONTENT


async def test_redirects_without_end_are_given_up(fetch: Fetched, server: FileServer) -> None:
    server.redirects = {NAME: f"/{NAME}"}

    with pytest.raises(UpdateError, match="leads from one address to the next"):
        await fetch(server.url(NAME), sha256(CONTENT))


async def test_a_redirect_to_something_else_is_refused(fetch: Fetched, server: FileServer) -> None:
    server.redirects = {NAME: "file:///etc/passwd"}

    with pytest.raises(UpdateError, match="not https"):
        await fetch(server.url(NAME), sha256(CONTENT))


async def test_a_checksum_does_not_come_over_a_network_that_can_change_it(
    fetch: Fetched, server: FileServer
) -> None:
    server.files = {NAME: CONTENT}
    server.redirects = {f"{NAME}.sha256": f"http://downloads.invalid/{NAME}.sha256"}

    with pytest.raises(UpdateError, match="not https"):
        await fetch(server.url(NAME))


async def test_what_is_offered_packed_stays_packed(fetch: Fetched, server: FileServer) -> None:
    server.files = {NAME: CONTENT}
    server.headers = {"Content-Encoding": "gzip"}

    assert await fetch(server.url(NAME), sha256(CONTENT)) == CONTENT


@pytest.mark.parametrize("by", ["file", "address", "argument"])
async def test_another_checksum_is_refused(
    fetch: Fetched, server: FileServer, tmp_path: Path, by: str
) -> None:
    file = put(tmp_path / "new", CONTENT)
    file.with_name("new.sha256").write_bytes(checksum_line(b"other"))
    server.files = {NAME: CONTENT, f"{NAME}.sha256": checksum_line(b"other")}
    text, given = {
        "file": (str(file), None),
        "address": (server.url(NAME), None),
        "argument": (str(file), "0" * 64),
    }[by]

    with pytest.raises(UpdateError, match="checksum does not match"):
        await fetch(text, given)


async def test_without_a_checksum_nothing_is_fetched(
    fetch: Fetched, server: FileServer, tmp_path: Path
) -> None:
    server.files = {NAME: CONTENT}
    for text in (server.url(NAME), put(tmp_path / "new", CONTENT, checksum=False)):
        with pytest.raises(UpdateError, match=r"no checksum can be read beside .*--sha256"):
            await fetch(text)
    assert server.requested == [f"{NAME}.sha256"]


async def test_what_is_in_the_way_of_a_checksum_is_told_with_what_to_do(
    authority: Authority, tmp_path: Path
) -> None:
    async with behind_tls(1, authority, "127.0.0.1") as url:
        source = Source(f"{url}/{NAME}", sha256=None, network=NetworkAccess({}))
        with pytest.raises(UpdateError, match="is not trusted") as caught:
            await source.checksum()
    assert "SSL_CERT_FILE" in (caught.value.hint or "")

    missing = Source(str(tmp_path / "missing"), sha256=None, network=NetworkAccess({}))
    with pytest.raises(UpdateError, match=r"there is no file .*missing"):
        await missing.checksum()


async def test_a_page_in_the_place_of_a_checksum_is_refused(
    fetch: Fetched, server: FileServer
) -> None:
    server.files = {NAME: CONTENT, f"{NAME}.sha256": b"<html>log in first</html>"}

    with pytest.raises(UpdateError, match=r"is none .*--sha256"):
        await fetch(server.url(NAME))


async def test_a_checksum_that_comes_in_pieces_is_read_to_its_end(
    fetch: Fetched, server: FileServer
) -> None:
    server.files = {NAME: CONTENT, f"{NAME}.sha256": sha256(CONTENT).encode() + b"\n"}
    server.halting = {f"{NAME}.sha256"}

    assert await fetch(server.url(NAME)) == CONTENT


async def test_a_download_that_is_cut_off_says_so(fetch: Fetched, server: FileServer) -> None:
    server.files, server.cut = {NAME: CONTENT}, {NAME}

    with pytest.raises(UpdateError, match="cut off"):
        await fetch(server.url(NAME), sha256(CONTENT))


async def test_a_file_that_is_missing_says_so(fetch: Fetched, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await fetch(tmp_path / "missing", "0" * 64)


async def test_nobody_at_an_address_says_so(fetch: Fetched) -> None:
    with file_server() as gone:
        address = gone.url(NAME)

    with pytest.raises(UpdateError, match="cannot be reached"):
        await fetch(address, "0" * 64)


async def test_a_secret_in_an_address_is_not_shown(fetch: Fetched, server: FileServer) -> None:
    with pytest.raises(UpdateError) as caught:
        await fetch(server.url(f"{NAME}?key=abcdef"), "0" * 64)

    assert "abcdef" not in str(caught.value)
    assert "HTTP 404" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ftp://127.0.0.1/x", r"only files and http\(s\)"),
        ("https:///x", r"only files and http\(s\)"),
        ("https://me:pass123@downloads.invalid/x", "login"),
        ("http://downloads.invalid/x", "--sha256"),
    ],
)
def test_addresses_that_are_not_safe_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        Source(text, sha256=None, network=NetworkAccess({}))

    assert "pass123" not in "".join(traceback.format_exception(caught.value))


def test_plain_http_is_good_enough_with_a_checksum() -> None:
    Source("http://downloads.invalid/x", sha256="0" * 64, network=NetworkAccess({}))
