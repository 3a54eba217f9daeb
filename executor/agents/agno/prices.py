"""What tokens cost, as a request says it: no API tells."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from shared.errors import RunError
from shared.status import ErrorCode

_NAMES: Final = ("input_usd_per_million", "output_usd_per_million")
HINT: Final = f"give every bot whose model is its own {' and '.join(_NAMES)} in agent_config.env"


@dataclass(frozen=True, slots=True)
class Price:
    """Of one model, in US dollars per million tokens."""

    input_usd: float
    output_usd: float

    def of(self, usage: Mapping[str, int]) -> float:
        """What these ``input_tokens`` and ``output_tokens`` cost, in US dollars."""
        inputs, outputs = usage["input_tokens"], usage["output_tokens"]
        return (inputs * self.input_usd + outputs * self.output_usd) / 1e6


Prices = Mapping[str, Price]
"""Of everybody who takes part, by their keys."""


def read_price(env: Mapping[str, Any], who: str) -> Price | None:
    """The price in a bot's ``agent_config.env``; ``None``: there is none.

    Args:
        who: Whose it is, for the reader.

    Raises:
        RunError: ``invalid_request``: half of it is missing, or it is no amount.
    """
    given = [env.get(name) for name in _NAMES]
    if all(value is None or value == "" for value in given):
        return None
    try:
        amounts = [float(value) for value in given if not isinstance(value, bool)]  # type: ignore[arg-type] # what is no number is refused
    except (TypeError, ValueError):
        amounts = []
    if len(amounts) < len(_NAMES) or not all(math.isfinite(one) and one >= 0 for one in amounts):
        raise RunError(
            ErrorCode.INVALID_REQUEST,
            f"{' and '.join(_NAMES)} of {who} must both be amounts of US dollars",
        )
    return Price(*amounts)
