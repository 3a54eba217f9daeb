"""Completion for zsh: to be evaluated, or as a file ``_wegent-executor`` in ``$fpath``."""

from __future__ import annotations

import re
from collections.abc import Iterator

from executor.completion.words import Option, Word


def script(program: str, root: Word) -> str:
    """The script, to be evaluated by the shell."""
    function = f"_{program}"
    lines = [f"#compdef {program}", f"# zsh completion of {program}"]
    for word in root.all():
        lines += ["", f"{_function(function, word)}() {{", *_body(function, word), "}"]
    lines += [
        "",
        f"if [[ $funcstack[1] == {function} ]]; then",
        f'    {function} "$@"',
        "else",
        f"    compdef {function} {program}",
        "fi",
    ]
    return "\n".join(lines) + "\n"


def _function(function: str, word: Word) -> str:
    return "__".join((function, *word.path))


def _body(function: str, word: Word) -> Iterator[str]:
    specs = [_quoted(spec) for option in word.options for spec in _specs(option)]
    if word.choices:
        specs.append(_quoted(f"1: :({' '.join(word.choices)})"))
    if word.words:
        specs += ["'1: :->word'", "'*:: :->rest'"]
        yield "    local curcontext=$curcontext state state_descr line ret=1"
        yield "    typeset -A opt_args"
    call = ["    _arguments -C" if word.words else "    _arguments", *specs]
    yield " \\\n        ".join(call) + (" && ret=0" if word.words else "")
    if not word.words:
        return
    yield "    case $state in"
    yield "    word)"
    yield "        local -a words_here=("
    for sub in word.words:
        yield f"            {_quoted(f'{sub.name}:{sub.help}')}"
    yield "        )"
    yield "        _describe word words_here && ret=0 ;;"
    yield "    rest)"
    yield "        case $line[1] in"
    for sub in word.words:
        yield f"        {sub.name}) {_function(function, sub)} && ret=0 ;;"
    yield "        esac ;;"
    yield "    esac"
    yield "    return ret"


def _specs(option: Option) -> Iterator[str]:
    """One for each flag; a flag excludes the others of its option."""
    value = ""
    if option.choices:
        value = f": :({' '.join(option.choices)})"
    elif option.takes_file:
        value = ": :_files"
    elif option.value:
        value = ": : "
    excluded = f"({' '.join(option.flags)})"
    for flag in option.flags:
        sign = ("=" if flag.startswith("--") else "+") if option.value else ""
        yield f"{excluded}{flag}{sign}[{_described(option.help)}]{value}"


def _described(text: str) -> str:
    return re.sub(r"([\[\]:\\])", r"\\\1", text)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
