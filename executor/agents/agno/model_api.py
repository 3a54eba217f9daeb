"""Which model a member uses, where, and with whose key. Nothing here is read from the environment.

The rule is that of Claude Code's runs: a key goes to the address that it was given for. The
executor's own keys go to its own addresses only, those of a leader to its own address only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from executor.agents.agno.members import Member
from executor.agents.agno.prices import HINT, Price, Prices, read_price
from shared.errors import RunError
from shared.protocol.bot import Bot
from shared.protocol.execution import ExecutionRequest
from shared.status import ErrorCode

Provider = Literal["anthropic", "openai"]

DEFAULT_URLS: Final[Mapping[Provider, str]] = {
    "anthropic": "https://api.anthropic.com",
    "openai": "https://api.openai.com/v1",
}

_WORDS: Final[Mapping[str, Provider]] = {
    "anthropic": "anthropic",
    "claude": "anthropic",
    "openai": "openai",
}
"""What may stand in ``model`` beside ``model_id``, or in ``provider``: whose model it is."""

_OPENAI_MODELS: Final = re.compile(r"(gpt|chatgpt|codex|o\d)([-.\d].*|$)")


@dataclass(frozen=True, slots=True)
class OwnApi:
    """What the operator gave the executor for one provider; empty when nothing."""

    api_key: str | None = field(default=None, repr=False)
    auth_token: str | None = field(default=None, repr=False)
    base_url: str | None = None
    """``None``: the provider's own address."""
    model: str | None = None
    """For requests that name none; ``None``: agno's default."""


OwnApis = Mapping[Provider, OwnApi]


@dataclass(frozen=True, slots=True)
class ModelApi:
    """What one member asks."""

    provider: Provider
    model: str | None
    """``None``: agno's default."""
    api_key: str | None = field(repr=False)
    auth_token: str | None = field(repr=False)
    """Anthropic only; used when there is no key."""
    base_url: str
    price: Price | None = None
    """``None``: unknown."""
    max_tokens: int | None = None
    """The longest answer; ``None``: agno's default for Anthropic (8,192), the API's for OpenAI."""


def model_apis(team: Member, request: ExecutionRequest, own: OwnApis) -> dict[str, ModelApi]:
    """What everybody in *team* asks, by their keys.

    Raises:
        RunError: ``credentials_missing``, or ``invalid_request`` for a price or limit that is none.
    """
    apis: dict[str, ModelApi] = {}

    def read(member: Member, above: ModelApi | None) -> None:
        wanted = request.model if above is None else None
        api = apis[member.key] = _model_api(member.bot, wanted, above, own)
        for below in member.members:
            read(below, api)

    read(team, None)
    return apis


def prices_of(apis: Mapping[str, ModelApi]) -> Prices | None:
    """The prices of everybody's model; ``None``: somebody's is unknown."""
    prices = {key: api.price for key, api in apis.items() if api.price is not None}
    return prices if len(prices) == len(apis) else None


def check_budget(request: ExecutionRequest, apis: Mapping[str, ModelApi]) -> None:
    """Refuse a budget that cannot be kept.

    Raises:
        RunError: ``invalid_request``.
    """
    if request.max_budget_usd is not None and prices_of(apis) is None:
        unknown = next(key for key, api in apis.items() if api.price is None)
        raise RunError(
            ErrorCode.INVALID_REQUEST,
            f"max_budget_usd cannot be kept: what the model of {unknown!r} costs is not known",
            hint=f"{HINT}, or leave max_budget_usd out",
        )


def named_model(
    bot: Bot, wanted: str | None, led_by: Provider = "anthropic"
) -> tuple[Provider, str | None]:
    """Whose model *bot* asks, and which; ``None``: it names none.

    Args:
        wanted: The model that the request names for it.
        led_by: Whose model its leader asks.
    """
    given = _Given(bot.agent_config.env)
    named = wanted or given.model
    provider = given.provider(named) or led_by
    return provider, named or given.text(f"{provider.upper()}_MODEL")


def _model_api(bot: Bot, wanted: str | None, above: ModelApi | None, own: OwnApis) -> ModelApi:
    given = _Given(bot.agent_config.env)
    provider, model = named_model(bot, wanted, above.provider if above else "anthropic")
    default = own.get(provider, OwnApi())
    if above is not None and above.provider != provider:
        above = None
    if model is None:
        model = above.model if above else default.model
    price, max_tokens = read_price(bot.agent_config.env, _called(bot)), _max_tokens(bot)
    if above is not None and model == above.model:
        price, max_tokens = price or above.price, max_tokens or above.max_tokens
    key, token, url = given.credentials(provider)
    if key or token:
        url = url or _address(provider, default)
        return ModelApi(provider, model, key, token, url, price, max_tokens)
    if above is not None and (url is None or _same(url, above.base_url)):
        key, token, url = above.api_key, above.auth_token, above.base_url
        return ModelApi(provider, model, key, token, url, price, max_tokens)
    if url is not None and not _same(url, _address(provider, default)):
        raise RunError(
            ErrorCode.CREDENTIALS_MISSING,
            f"{_called(bot)} names its own base_url, but brings no key for it",
            hint="put api_key beside base_url; other keys go to their own base URL only",
        )
    if not (default.api_key or default.auth_token):
        raise RunError(
            ErrorCode.CREDENTIALS_MISSING,
            f"there is no key for the API of {_called(bot)} ({provider})",
            hint="give the bot an api_key in agent_config.env, or the executor "
            f"{provider.upper()}_API_KEY; agno cannot use the login of Claude Code",
        )
    key, token, url = default.api_key, default.auth_token, _address(provider, default)
    return ModelApi(provider, model, key, token, url, price, max_tokens)


def _max_tokens(bot: Bot) -> int | None:
    given = bot.agent_config.env.get("max_tokens")
    if given is None or given == "":
        return None
    if isinstance(given, bool) or not re.fullmatch(r"[1-9][0-9]{0,8}", str(given).strip()):
        raise RunError(
            ErrorCode.INVALID_REQUEST, f"max_tokens of {_called(bot)} must be a number of tokens"
        )
    return int(given)


class _Given:
    """What a bot's ``agent_config.env`` says about its model."""

    def __init__(self, env: Mapping[str, Any]) -> None:
        self._env = env
        model, word = self.text("model_id"), self.text("model")
        self._word = self.text("provider")
        if word is not None and (model is not None or word.lower() in ("openai", "anthropic")):
            self._word, word = self._word or word, None
        self.model = model or word

    def text(self, name: str) -> str | None:
        value = self._env.get(name)
        return value.strip() or None if isinstance(value, str) else None

    def provider(self, model: str | None) -> Provider | None:
        """Whose model it is; ``None``: nothing says so."""
        if self._word is not None and self._word.lower() in _WORDS:
            return _WORDS[self._word.lower()]
        if model is not None and model.lower().startswith("claude"):
            return "anthropic"
        if model is not None and _OPENAI_MODELS.match(model.lower()):
            return "openai"
        names = {name.partition("_")[0] for name in self._env if self.text(name)}
        if "ANTHROPIC" in names:
            return "anthropic"
        return "openai" if "OPENAI" in names else None

    def credentials(self, provider: Provider) -> tuple[str | None, str | None, str | None]:
        """Key, token and address."""
        prefix = provider.upper()
        key = self.text("api_key") or self.text(f"{prefix}_API_KEY")
        token = None
        if provider == "anthropic":
            token = self.text("auth_token") or self.text("ANTHROPIC_AUTH_TOKEN")
        url = self.text("base_url") or self.text(f"{prefix}_BASE_URL")
        return key, token, url


def _address(provider: Provider, own: OwnApi) -> str:
    return own.base_url or DEFAULT_URLS[provider]


def _same(url: str, other: str) -> bool:
    return url.rstrip("/").lower() == other.rstrip("/").lower()


def _called(bot: Bot) -> str:
    return f"the bot {bot.name[:64]!r}" if bot.name else "the bot"
