"""JSON as it goes onto the wire: compact UTF-8 without escaping, which would double some texts.

A stand-in for the ``json`` module, with the two functions that Socket.IO calls.
"""

from __future__ import annotations

import json
from typing import Any, Final

_encoder: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_decoder: Final = json.JSONDecoder(parse_constant=lambda _name: None)


def loads(text: str) -> Any:
    """Decode; NaN and the infinities, which only Python takes for JSON, become null."""
    return _decoder.decode(text)


def dumps(value: Any, **_options: Any) -> str:
    """Encode; the library's options say what is done anyway."""
    try:
        text = _encoder.encode(value)
    except ValueError:
        # NaN or an infinity, which peers that are not written in Python cannot read.
        text = _encoder.encode(loads(json.dumps(value)))
    try:
        text.encode()
    except UnicodeEncodeError:
        # A lone surrogate, which would end the connection when sent, and again when sent again.
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
