"""``wegent-executor config``: the settings as the executor would have them, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from executor.commands.command import Command
from executor.commands.output import Cell, Styled, print_json, print_line, print_table, warn
from executor.exit_status import ExitStatus

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection

    from executor.config.loading import Settings
    from executor.config.problems import WrongSettings
    from executor.config.sources import SettingSources
    from shared.redaction import Redactor


def run(arguments: argparse.Namespace) -> int:
    """Print the settings; what is wrong with them ends as an error."""
    from executor.config.broken_lines import broken_lines
    from executor.config.sources import SettingSources, load_right_settings

    sources = SettingSources.read()
    for name in sources.unknown:
        meant = sources.meant_by(name)
        remark = f"; did you mean {meant}?" if meant else " and has no effect on it"
        warn(f"{sources.file}: {name} is not a setting of the executor{remark}")
    settings, wrong = load_right_settings()
    if wrong is None:  # otherwise it tells of them
        for line in broken_lines(sources.file):
            warn(line)
    if arguments.json:
        print_json(describe(settings, sources, wrong))
    else:
        _print(settings, sources, wrong)
    if wrong is not None:
        raise wrong
    return ExitStatus.OK


def describe(
    settings: Settings, sources: SettingSources, wrong: WrongSettings | None
) -> dict[str, Any]:
    """The settings as JSON, without secrets; the value of what is wrong is ``None``."""
    from executor.config.loading import variables_of

    wrong_ones = _wrong_variables(wrong, sources)
    redactor = _redactor(settings, sources)
    return {
        "config_file": str(sources.file),
        "settings": {
            variable: {
                "value": None
                if variable in wrong_ones
                else _shown(getattr(settings, attribute), redactor),
                "source": sources.of(variable).value,
                "overrides_config_file": sources.overridden(variable),
            }
            for variable, attribute in variables_of(type(settings)).items()
        },
        "network": {
            name: {"value": redactor.redact(value), "source": source.value}
            for name, (value, source) in sources.network.items()
        },
        "unknown": sources.unknown,
        "problems": [str(problem) for problem in wrong.problems] if wrong else [],
    }


def _print(settings: Settings, sources: SettingSources, wrong: WrongSettings | None) -> None:
    from executor.config.loading import variables_of
    from executor.config.sources import Source

    wrong_ones = _wrong_variables(wrong, sources)
    redactor = _redactor(settings, sources)
    exists = "" if sources.file.exists() else " (there is none)"
    print_line(Styled(f"config.env: {sources.file}{exists}", "dim"))
    rows: list[tuple[Cell, Cell, Cell]] = []
    for variable, attribute in variables_of(type(settings)).items():
        source = sources.of(variable)
        value: Cell = _as_text(_shown(getattr(settings, attribute), redactor))
        if variable in wrong_ones:
            value = Styled("missing" if source is Source.DEFAULT else "wrong", "bad")
        origin: Cell = Styled(source, "dim") if source is Source.DEFAULT else source.value
        if sources.overridden(variable):
            origin = Styled(f"{source}, not config.env", "warning")
        rows.append((variable, value, origin))
    rows += [
        (name, redactor.redact(value), source.value)
        for name, (value, source) in sources.network.items()
    ]
    print_table(["setting", "value", "from"], rows, unbroken=1)


def _wrong_variables(wrong: WrongSettings | None, sources: SettingSources) -> Collection[str]:
    """What is missing, and what was set wrong or does not fit the rest; never what is a default."""
    from executor.config.loading import EXAMPLES
    from executor.config.sources import Source

    variables = wrong.variables if wrong else ()
    return {
        variable
        for variable in variables
        if variable in EXAMPLES or sources.of(variable) is not Source.DEFAULT
    }


def _redactor(settings: Settings, sources: SettingSources) -> Redactor:
    from shared.protocol.credentials import named_credentials
    from shared.redaction import Redactor

    logins = named_credentials({name: value for name, (value, _) in sources.network.items()})
    return Redactor([*settings.secrets, *logins])


def _shown(value: object, redactor: Redactor) -> object:
    """*value* as JSON can have it; a secret shows only that it is set."""
    from pydantic import SecretStr

    from shared.redaction import MASK

    match value:
        case None | bool() | int() | float():
            return value
        case SecretStr():
            return MASK
        case _:
            return redactor.redact(str(value))


def _as_text(value: object) -> str:
    match value:
        case None | "":
            return "-"
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document")


COMMAND = Command(
    name="config",
    help="show the settings and where each comes from",
    description="Show every setting as the executor would have it if it were started from here: "
    "from the environment, from config.env, or the default; of proxies and authorities, those that "
    "are set. Tokens, keys and logins are masked. Names in config.env that are no settings are "
    "warned of. What is missing or wrong ends with status 2.",
    run=run,
    add_arguments=_add_arguments,
)
