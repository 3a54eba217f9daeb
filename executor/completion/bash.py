"""Completion for bash, 3.2 and later."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from executor.completion.words import Word


def script(program: str, root: Word) -> str:
    """The script, to be evaluated by the shell."""
    function = f"_{program.replace('-', '_')}"
    return "\n".join(_lines(program, function, root)) + "\n"


def _lines(program: str, function: str, root: Word) -> Iterator[str]:
    words = list(root.all())
    yield f"# bash completion of {program}"
    yield f"{function}() {{"
    yield '    local word="${COMP_WORDS[COMP_CWORD]}" path="" words="" i IFS=$\' \\t\\n\''
    yield '    local before="${COMP_WORDS[COMP_CWORD-1]}"'
    yield "    # --option=value is three words"
    yield '    if [[ $before == "=" ]]; then before="${COMP_WORDS[COMP_CWORD-2]}"; fi'
    yield '    if [[ $word == "=" ]]; then word=""; fi'
    yield "    COMPREPLY=()"
    yield "    for ((i = 1; i < COMP_CWORD; i++)); do"
    yield '        case "$path ${COMP_WORDS[i]}" in'
    paths = _patterns(_key(word) for word in words[1:])
    yield f'            {paths}) path="$path ${{COMP_WORDS[i]}}" ;;'
    yield "        esac"
    yield "    done"
    yield '    case "$path $before" in'
    for word in words:
        for option in word.options:
            if not option.value:
                continue
            pattern = _patterns(f"{_key(word)} {flag}" for flag in option.flags)
            if option.choices:
                yield f"        {pattern}) words={shlex.quote(' '.join(option.choices))} ;;"
            elif option.takes_file:
                yield f"        {pattern})"
                yield "            IFS=$'\\n'"
                yield '            COMPREPLY=($(compgen -f -- "$word"))'
                yield "            compopt -o filenames 2>/dev/null"
                yield "            return ;;"
            else:
                yield f"        {pattern}) return ;;"
    yield '        *) case "$path" in'
    for word in words:
        offered = [*(sub.name for sub in word.words), *word.choices]
        offered += [flag for option in word.options for flag in option.flags]
        yield f"            {shlex.quote(_key(word))}) words={shlex.quote(' '.join(offered))} ;;"
    yield "        esac ;;"
    yield "    esac"
    yield '    COMPREPLY=($(compgen -W "$words" -- "$word"))'
    yield "}"
    yield f"complete -F {function} {program}"


def _key(word: Word) -> str:
    return "".join(f" {part}" for part in word.path)


def _patterns(texts: Iterator[str]) -> str:
    return "|".join(map(shlex.quote, texts))
