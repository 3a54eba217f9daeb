"""Which hosts a list of allowed ones means."""

from __future__ import annotations

import pytest

from executor.tasks.allowed_hosts import host_allowed, hosts_of_run, read_hosts, url_allowed


def test_a_list_is_read_with_commas_and_spaces() -> None:
    text = "pypi.org, *.Example.com localhost:8080,10.0.0.1 [::1]:443,pypi.org"
    wanted = ("pypi.org", "*.example.com", "localhost:8080", "10.0.0.1", "[::1]:443")
    assert read_hosts(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "*.com",
        "https://pypi.org",
        "pypi.org/simple",
        "a b",
        "x.org:0",
        "x.org:70000",
        "*x.org",
    ],
)
def test_what_would_allow_everything_or_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"every entry|a port"):
        read_hosts(text)


@pytest.mark.parametrize(
    ("repository", "api", "hosts"),
    [
        (None, None, ("api.anthropic.com:443",)),
        ("https://git.example/a/b.git", None, ("api.anthropic.com:443", "git.example:443")),
        ("git@git.example:a/b.git", "http://127.0.0.1:99/v", ("127.0.0.1:99", "git.example:22")),
        ("ssh://git@git.example:2222/a/b", "https://git.example", None),
        ("file:///srv/a.git", "http://[::1]:8080", ("[::1]:8080",)),
    ],
)
def test_a_run_needs_its_repository_and_its_model(
    repository: str | None, api: str | None, hosts: tuple[str, ...] | None
) -> None:
    assert hosts_of_run(repository, api) == (hosts or ("git.example:443", "git.example:2222"))


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://example.com/x", True),
        ("https://EXAMPLE.com./x", True),
        ("http://example.com:8080/", True),
        ("https://a.sub.example.org/", True),
        ("https://sub.example.org/", False),
        ("https://evil-example.com/", False),
        ("https://example.com.evil.net/", False),
        ("https://example.com@evil.net/", False),
        ("https://evil.net/#@example.com", False),
        ("http://localhost:8080/", True),
        ("http://localhost:22/", False),
        ("http://localhost/", False),
        ("file:///etc/passwd", False),
        ("https://[::1", False),
        ("", False),
    ],
)
def test_urls_are_judged_by_their_true_host_and_port(url: str, allowed: bool) -> None:
    hosts = ("example.com", "*.sub.example.org", "localhost:8080")
    assert url_allowed(url, hosts) is allowed


def test_a_host_without_port_does_not_match_an_entry_with_one() -> None:
    assert host_allowed("example.com", ("example.com",))
    assert not host_allowed("example.com", ("example.com:443",))
    assert not host_allowed("", ("example.com",))


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.net\\@example.com/",
        "http://evil.net\\\\@example.com/",
        "http://evil.net\t\\@example.com/",
        "http://user@example.com/",
        "http://exam\nple.com/",
        "http://example.com /",
    ],
)
def test_an_address_that_programs_read_differently_is_not_allowed(url: str) -> None:
    assert not url_allowed(url, ["example.com"])
    assert url_allowed("http://example.com/a?b=c@d", ["example.com"])
