"""Where the backend is."""

from __future__ import annotations

import pytest

from executor.modes.local.backend_url import BackendUrl


@pytest.mark.parametrize(
    ("url", "origin", "path", "shown"),
    [
        ("http://h:8000", "http://h:8000", "socket.io", "http://h:8000"),
        ("ws://h:8000/", "http://h:8000", "socket.io", "http://h:8000"),
        ("wss://h/a/b/", "https://h", "a/b/socket.io", "https://h/a/b"),
        ("HTTPS://h/api", "https://h", "api/socket.io", "https://h/api"),
        ("http://u:pw@h/x?key=s", "http://u:pw@h/?key=s", "x/socket.io", "http://h/x"),
        (" http://[::1]:80 ", "http://[::1]:80", "socket.io", "http://[::1]:80"),
    ],
)
def test_a_url_gives_origin_path_and_a_text_without_secrets(
    url: str, origin: str, path: str, shown: str
) -> None:
    read = BackendUrl.parse(url)
    assert (read.origin, read.socketio_path, str(read)) == (origin, path, shown)
    assert "pw" not in repr(read)


@pytest.mark.parametrize("url", ["", "localhost:8000", "ftp://h", "http://", "/secret"])
def test_what_is_no_backend_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match="must be http") as caught:
        BackendUrl.parse(url)
    assert "secret" not in str(caught.value)
