from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.protocol.repository import Repository, check_branch, check_repository_url


@pytest.mark.parametrize(
    ("url", "cleaned", "scheme", "host", "name"),
    [
        ("https://github.com/a/b.git", "https://github.com/a/b.git", "https", "github.com", "b"),
        ("HTTPS://GitHub.com/a/b", "https://github.com/a/b", "https", "github.com", "b"),
        ("http://gerrit:8080/a/x", "http://gerrit:8080/a/x", "http", "gerrit", "x"),
        ("https://[::1]:8443/x.git", "https://[::1]:8443/x.git", "https", "::1", "x"),
        ("ssh://git@h:29418/p/x", "ssh://git@h:29418/p/x", "ssh", "h", "x"),
        ("git@gitee.com:o/x.git", "git@gitee.com:o/x.git", "ssh", "gitee.com", "x"),
        ("host:x.git", "host:x.git", "ssh", "host", "x"),
        ("file:///srv/x", "file:///srv/x", "file", "", "x"),
        ("file:///srv/x/.git", "file:///srv/x/.git", "file", "", "x"),
        ("https://h/a/b/", "https://h/a/b/", "https", "h", "b"),
        ("https://h/a/con.git", "https://h/a/con.git", "https", "h", "_con"),
        ("https://h/a/%2e%2e%2fx", "https://h/a/%2e%2e%2fx", "https", "h", "x"),
        ("https://h/a/.hidden", "https://h/a/.hidden", "https", "h", "hidden"),
        ("https://h/a/b%20c;d", "https://h/a/b%20c;d", "https", "h", "b_c_d"),
    ],
)
def test_an_address_is_taken_apart(
    url: str, cleaned: str, scheme: str, host: str, name: str
) -> None:
    repository = Repository.parse(url)

    assert (repository.url, repository.scheme, repository.host, repository.name) == (
        cleaned,
        scheme,
        host,
        name,
    )


def test_user_and_password_leave_the_address() -> None:
    repository = Repository.parse("https://ada%40corp:p%2Fw@h:8443/a/b.git")

    assert repository.url == "https://h:8443/a/b.git"
    assert repository.username == "ada@corp"
    assert repository.password is not None
    assert repository.password.get_secret_value() == "p/w"
    assert "p/w" not in repr(repository)


@pytest.mark.parametrize(
    "url",
    [
        "-u",
        "--upload-pack=touch x",
        "-oProxyCommand=x@h:p",
        "ext::sh -c touch% x",
        "ext::sh",
        "fd::17/x",
        "https::https://h/x",
        "git://h/x",
        "ftp://h/x",
        "/srv/x",
        "./x",
        "../x",
        "~/x",
        "C:\\x",
        "c:/x",
        "x",
        "",
        "https://",
        "https:///x",
        "https://h",
        "https://h/",
        "https://h/..",
        "https://h/.git",
        "https://-h/x",
        "https://h;x/x",
        "https://h:port/x",
        "https://h:99999/x",
        "https://[::1/x",
        "https://h/x?token=abc",
        "https://h/x#part",
        "https://h/x y",
        "https://h/x\ny",
        "https://h/x\x00",
        "https://h/\ud800",
        "ssh://-oProxyCommand=x/x",
        "ssh://-u@h/x",
        "-u@h:x",
        "git@-h:x",
        "git@h:-x",
        "file://host/x",
        "file://user@/x",
        "https://h/" + "x" * 2048,
    ],
)
def test_what_git_must_not_be_given_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError) as raised:
        check_repository_url(url)

    assert len(url) < 6 or url not in str(raised.value)


def test_a_bad_port_does_not_show_in_the_reason() -> None:
    with pytest.raises(ValueError) as raised:
        Repository.parse("https://u:p@h:s3cret/x")

    assert "s3cret" not in str(raised.value)


@given(st.text(max_size=60))
def test_any_text_is_refused_or_names_a_plain_folder(text: str) -> None:
    for url in (text, f"https://h/{text}", f"git@h:{text}", f"file:///{text}"):
        try:
            repository = Repository.parse(url)
        except ValueError:
            continue
        assert repository.name not in ("", ".", "..")
        assert not set(repository.name) & set('/\\:\0 "')
        assert not repository.name.startswith((".", "-"))
        assert not repository.url.startswith("-")


@pytest.mark.parametrize(
    "other",
    ["https://h/a/b.git", "https://h/a/b/", "https://ada:pw@h/a/b", "https://H/a/b.git/"],
)
def test_spellings_of_one_repository_share_its_identity(other: str) -> None:
    assert Repository.parse(other).identity == Repository.parse("https://h/a/b").identity


@pytest.mark.parametrize(
    "other", ["https://h/a/c", "https://h:8443/a/b", "https://x/a/b", "git@h:a/b", "https://h/b"]
)
def test_different_repositories_have_different_identities(other: str) -> None:
    assert Repository.parse(other).identity != Repository.parse("https://h/a/b").identity


def test_the_user_of_an_ssh_address_is_no_part_of_its_identity() -> None:
    assert Repository.parse("ada@h:a/b").identity == Repository.parse("git@h:a/b.git").identity


@pytest.mark.parametrize("branch", ["main", "fix/sum", "v1.2", "ünïcode", "a@b", "x" * 255])
def test_a_branch_name_that_git_takes_is_taken(branch: str) -> None:
    assert check_branch(branch) == branch


@pytest.mark.parametrize(
    "branch",
    [
        "-b",
        "--upload-pack=x",
        "/a",
        "a/",
        ".a",
        "a.",
        "a..b",
        "a//b",
        "a/.b",
        "a.lock",
        "a.lock/b",
        "a b",
        "a~1",
        "a^",
        "a:b",
        "a?",
        "a*",
        "a[b",
        "a\\b",
        "a@{1}",
        "@",
        "a\x00",
        "a\nb",
        "\ud800",
        "x" * 256,
    ],
)
def test_a_branch_name_that_git_refuses_is_refused(branch: str) -> None:
    with pytest.raises(ValueError, match="must"):
        check_branch(branch)
