"""Which proxy leads to an address, by the variables of the environment."""

from __future__ import annotations

import pytest
from yarl import URL

from executor.network.proxies import Proxies
from shared.errors import ConfigError

P = {"HTTPS_PROXY": "http://p:1"}


@pytest.mark.parametrize(
    ("variables", "url", "proxy"),
    [
        ({}, "https://h", None),
        (P, "https://h", "http://p:1"),
        (P, "wss://h", "http://p:1"),
        (P, "http://h", None),
        ({"HTTP_PROXY": "http://p:2"}, "ws://h", "http://p:2"),
        ({"http_proxy": "http://p:2"}, "http://h", "http://p:2"),
        ({"https_proxy": "http://p:3", **P}, "wss://h", "http://p:3"),
        ({"https_proxy": "", **P}, "wss://h", "http://p:1"),
        ({"ALL_PROXY": "http://p:4"}, "wss://h", "http://p:4"),
        ({"all_proxy": "http://p:4"}, "http://h", "http://p:4"),
        ({"ALL_PROXY": "socks5://p:4", **P}, "wss://h", "http://p:1"),
        ({"HTTPS_PROXY": "p.corp:3128"}, "https://h", "http://p.corp:3128"),
        ({"HTTPS_PROXY": "https://p.corp"}, "https://h", "https://p.corp"),
        ({"HTTPS_PROXY": " http://[::1]:1/ "}, "https://h", "http://[::1]:1/"),
    ],
)
def test_the_proxy_is_that_of_the_scheme_and_small_letters_count_more(
    variables: dict[str, str], url: str, proxy: str | None
) -> None:
    found = Proxies(variables).lead_to(url)
    assert (found.url if found else None) == (URL(proxy) if proxy else None)


@pytest.mark.parametrize(
    ("no_proxy", "url", "direct"),
    [
        ("h", "wss://h", True),
        ("h", "wss://other-h", False),
        ("H.", "https://h", True),
        ("example.org", "wss://a.b.example.org", True),
        (".example.org", "wss://a.example.org", True),
        (".example.org", "wss://example.org", True),
        ("*.example.org", "wss://a.example.org", True),
        ("example.org", "wss://notexample.org", False),
        ("h:8443", "wss://h:8443", True),
        ("h:8443", "wss://h", False),
        ("h:443", "wss://h", True),
        ("a, h c", "https://h", True),
        ("*", "wss://h", True),
        (" , ", "wss://h", False),
        ("10.0.0.0/8", "https://10.1.2.3", True),
        ("10.0.0.0/8", "https://11.1.2.3", False),
        ("10.0.0.0/8", "https://h.10", False),
        ("10.1.2.3/8", "https://10.9.9.9:8443", True),
        ("127.0.0.1", "https://127.0.0.1:1", True),
        ("::1", "https://[::1]:1", True),
        ("[::1]", "https://[::1]", True),
        ("[::1]:2", "https://[::1]:1", False),
        ("fd00::/8", "https://[fd00::7]", True),
        ("nonsense/8", "https://h", False),
    ],
)
def test_no_proxy_names_hosts_domains_ports_addresses_and_networks(
    no_proxy: str, url: str, direct: bool
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        assert (Proxies({**P, name: no_proxy}).lead_to(url) is None) is direct


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("socks5h://user:secret@p:1080", "names a socks5h proxy, which this program cannot use"),
        ("http://user:secret@", "does not have the form"),
        ("http://user:secret@p:port", "does not have the form"),
        ("http://us%3Aer:secret@p:1", "does not have the form"),
    ],
)
def test_an_unusable_proxy_is_refused_by_its_variable_without_its_password(
    value: str, reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason) as caught:
        Proxies({"all_proxy": value}).lead_to("https://h")
    assert str(caught.value).startswith("all_proxy ")
    assert "NO_PROXY" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_unusable_proxy_does_not_matter_to_what_needs_none() -> None:
    proxies = Proxies({"ALL_PROXY": "socks5://p:1", "NO_PROXY": "h"})
    assert proxies.lead_to("https://h") is None


def test_a_proxy_shows_its_place_and_its_variable_but_no_login() -> None:
    proxy = Proxies({"Https_Proxy": "http://user:secret@p"}).lead_to("https://h")
    assert proxy is not None
    assert (str(proxy), proxy.variable) == ("p:80", "Https_Proxy")
    assert "secret" not in repr(proxy)
