"""Completion for fish."""

from __future__ import annotations

from collections.abc import Iterator

from executor.completion.words import Option, Word


def script(program: str, root: Word) -> str:
    """The script, to be sourced by the shell."""
    return "\n".join(_lines(program, root)) + "\n"


def _lines(program: str, root: Word) -> Iterator[str]:
    yield f"# fish completion of {program}"
    yield f"complete -c {program} -f"
    for word in root.all():
        where = f"complete -c {program} -n {_quoted(_condition(word))}"
        for sub in word.words:
            yield f"{where} -a {sub.name} -d {_quoted(sub.help)}"
        if word.choices:
            yield f"{where} -a {_quoted(' '.join(word.choices))}"
        for option in word.options:
            yield f"{where} {_option(option)}"


def _condition(word: Word) -> str:
    """Whether the words typed so far lead to *word* and no further."""
    parts = [f"__fish_seen_subcommand_from {name}" for name in word.path]
    if word.words:
        parts.append(f"not __fish_seen_subcommand_from {' '.join(sub.name for sub in word.words)}")
    return "; and ".join(parts) or "true"


def _option(option: Option) -> str:
    parts = [
        f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags
    ]
    if option.choices:
        parts.append(f"-x -a {_quoted(' '.join(option.choices))}")
    elif option.takes_file:
        parts.append("-r -F")
    elif option.value:
        parts.append("-x")
    return " ".join((*parts, f"-d {_quoted(option.help)}"))


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
