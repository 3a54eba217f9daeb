"""What the documents name is there: links, files, commands, targets of make, defaults."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from executor.commands.parser import build_parser
from executor_manager.config import ManagerSettings

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
READ_BY_OPERATORS = [README, *sorted(ROOT.glob("docs/*.md"))]
DOCUMENTS = [README, ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]

LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(
    r"`((?:bench|docker|docs|executor|executor_manager|requirements|scripts|shared|tests)/"
    r"[\w./-]+\.\w+)`"
)
SETTING = re.compile(r"`((?:LOCAL|WEGENT)_[A-Z_]+)\b")
ROW = re.compile(r"^\| `([A-Z_]+)` \| (.*?) \|", re.MULTILINE)


def of(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def code_of(text: str) -> Iterator[str]:
    """What stands there as code: the lines of blocks, and pieces within a sentence."""
    for block in FENCED.findall(text):
        yield from block.splitlines()[1:-1]
    yield from re.findall(r"`([^`\n]+)`", FENCED.sub("", text))


def anchors(document: Path) -> set[str]:
    """The headings of *document*, as the address of a page has them."""
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in HEADING.findall(of(document)))
    return {heading.replace(" ", "-") for heading in plain}


def typed(document: Path) -> list[list[str]]:
    """What a reader of *document* may type behind ``wegent-executor``."""
    found = []
    for code in code_of(of(document)):
        if match := re.match(r"(?:\$ )?(?:\S*/)?wegent-executor(?: (.*))?$", code.split("#")[0]):
            words = re.sub(r"<[^>]*>", "X", match[1] or "").strip()
            found.append(shlex.split(words))
    return found


def test_every_link_leads_somewhere() -> None:
    broken = []
    for document in DOCUMENTS:
        for link in LINK.findall(of(document)):
            path, _, anchor = link.partition("#")
            target = document.parent / path if path else document
            there = "://" in link or (target.exists() and (not anchor or anchor in anchors(target)))
            if not there:
                broken.append((document.name, link))
    assert broken == []


def test_every_file_that_is_named_is_there() -> None:
    named = {name for document in DOCUMENTS for name in FILE.findall(of(document))}
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_every_command_that_the_documents_show_is_one() -> None:
    shown = [words for document in READ_BY_OPERATORS for words in typed(document)]
    assert len(shown) > 15
    for words in shown:
        try:
            build_parser().parse_args(words)
        except SystemExit as exc:
            assert exc.code == 0, words


def test_every_target_of_make_that_the_readme_shows_is_one() -> None:
    targets = set(re.findall(r"^([a-z]+):", of(ROOT / "Makefile"), re.MULTILINE))
    shown = {m[1] for code in code_of(of(README)) if (m := re.match(r"make (\w+)", code))}
    assert {"demo", "test", "binary"} <= shown <= targets


def test_the_readmes_settings_have_the_defaults_of_the_program() -> None:
    known = dict(ROW.findall(of(ROOT / "docs" / "settings.md")))
    shown = dict(ROW.findall(of(README)))
    assert len(shown) >= 4
    assert shown == {name: known[name] for name in shown}


def test_every_setting_that_is_named_is_one() -> None:
    known = SETTING.findall(of(ROOT / "docs" / "settings.md"))
    named = {name for document in READ_BY_OPERATORS for name in SETTING.findall(of(document))}
    assert {name for name in named if not name.startswith("WEGENT_TEST_")} <= set(known)


def test_the_managers_settings_in_the_readme_are_its_settings() -> None:
    (paragraph,) = re.findall(r"They begin with `MANAGER_`:(.*?)\n\n", of(README), re.DOTALL)
    shown = re.findall(r"`([A-Z_]+)`(?: \((?:`([^`]+)`|(\d+))\))?", paragraph)
    assert {name.lower() for name, _, _ in shown} == ManagerSettings.model_fields.keys()
    for name, text, number in shown:
        default = ManagerSettings.model_fields[name.lower()].default
        if name != "HOME" and (text or number):
            assert str(default) == (text or number), name
