"""The network's variables as git, Claude Code and curl read them."""

from __future__ import annotations

from executor.network.children import children_environment


def test_proxies_get_both_spellings_and_a_scheme() -> None:
    env = children_environment({"HTTP_PROXY": "p:1", "https_proxy": "http://p:2", "NO_PROXY": "h"})
    assert env == {
        "HTTP_PROXY": "http://p:1",
        "http_proxy": "http://p:1",
        "HTTPS_PROXY": "http://p:2",
        "https_proxy": "http://p:2",
        "NO_PROXY": "h",
        "no_proxy": "h",
    }


def test_small_letters_count_more() -> None:
    env = children_environment({"ALL_PROXY": "http://p:1", "all_proxy": "http://p:2"})
    assert set(env.values()) == {"http://p:2"}


def test_what_is_reached_directly_is_written_as_curl_knows_it() -> None:
    env = children_environment({"NO_PROXY": "*.corp.test, *.example.org,host*.net"})
    assert env["NO_PROXY"] == env["no_proxy"] == ".corp.test,.example.org,host*.net"
    assert children_environment({"NO_PROXY": "localhost, *"})["NO_PROXY"] == "*"


def test_authorities_are_made_known_to_git_and_claude_code() -> None:
    env = children_environment({"SSL_CERT_FILE": "/ca.pem", "SSL_CERT_DIR": "/ca"})
    assert env["NODE_EXTRA_CA_CERTS"] == env["GIT_SSL_CAINFO"] == "/ca.pem"
    assert env["GIT_SSL_CAPATH"] == "/ca"


def test_authorities_of_one_program_are_kept() -> None:
    own = {"NODE_EXTRA_CA_CERTS": "/node.pem", "GIT_SSL_CAINFO": "/git.pem"}
    env = children_environment({"SSL_CERT_FILE": "/ca.pem", **own})
    assert env == {"SSL_CERT_FILE": "/ca.pem", **own}


def test_without_proxies_and_authorities_nothing_is_added() -> None:
    assert children_environment({"PATH": "/bin", "HTTP_PROXY": ""}) == {
        "PATH": "/bin",
        "HTTP_PROXY": "",
    }
