from __future__ import annotations

import pytest

from shared.protocol.relative_paths import Tree, relative_path


@pytest.mark.parametrize(
    ("path", "result"),
    [
        ("a.txt", "a.txt"),
        ("./a/b c.txt", "a/b c.txt"),
        (".hidden/.x", ".hidden/.x"),
        ("e\u0301.txt", "\u00e9.txt"),
        ("a..b", "a..b"),
        ("日本/語", "日本/語"),
    ],
)
def test_a_plain_path_is_taken(path: str, result: str) -> None:
    assert relative_path(path) == result


@pytest.mark.parametrize(
    "path",
    [
        "", ".", "..", "./..", "../a", "a/../b", "a/..", "a/.", "a//b", "a/", "/a", "//h/a",
        "\\a", "a\\..\\b", "..\\a", "C:\\a", "C:a", "a:stream", "a\0b", "a\nb", "a\x7f", "a\u202eb",
        "a\u200b", "\ufeffa", "a\ud800", "a ", " a", "a.", "a/b. ", "a\u00a0", "con", "a/NUL.txt",
        "COM1", "lpt\u00b9.x", "aux .txt", "a*", "a?", "<a", "a|b", 'a"', "x" * 256, "é" * 128,
        "/".join("a" * 17), "/".join(["x" * 200] * 6),
    ],
)  # fmt: skip
def test_a_path_that_leads_out_or_means_something_else_somewhere_is_refused(path: str) -> None:
    with pytest.raises(ValueError):
        relative_path(path)


@pytest.mark.parametrize(
    "paths",
    [
        ("a.txt", "a.txt"),
        ("a.txt", "A.TXT"),
        ("a", "a/b"),
        ("a/b", "a"),
        ("a/b", "A/c"),
        ("straße", "STRASSE"),
        ("\ufb01le", "file"),
        ("x/\u017f", "x/S"),
        ("\u0130", "i\u0307"),
        ("\u0390", "\u03aa\u0301"),
    ],
)
def test_files_that_are_one_on_some_system_are_refused(paths: tuple[str, str]) -> None:
    tree = Tree()
    tree.add(relative_path(paths[0]))

    with pytest.raises(ValueError, match="one where upper and lower case"):
        tree.add(relative_path(paths[1]))


def test_a_folder_may_be_listed_again_under_its_own_name() -> None:
    tree = Tree()
    tree.add_folder("a/b")
    tree.add("a/b/c")
    tree.add_folder("a/b")

    with pytest.raises(ValueError):
        tree.add_folder("A/b")
    with pytest.raises(ValueError):
        tree.add("a/b")
