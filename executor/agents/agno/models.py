"""The models of agno, each with a client of its own that knows nothing but what it was given."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import httpx2
from agno.exceptions import ModelProviderError
from agno.models.anthropic import Claude
from agno.models.base import Model
from agno.models.message import Message
from agno.models.openai import OpenAIChat
from agno.models.response import ModelResponse
from anthropic import AsyncAnthropic, Omit
from openai import AsyncOpenAI

from executor.agents.agno.model_api import ModelApi
from executor.agents.agno.verdict import headers_of, is_out_of_money, lifted_at, status_of
from executor.network.trust import trusting_context

MAX_RETRIES: Final = 2
FIRST_PAUSE_S: Final = 1.0
LONGEST_PAUSE_S: Final = 20.0

REQUEST_TIMEOUT: Final = httpx2.Timeout(600, connect=30)

_ROLES: Final = {name: name for name in ("system", "user", "assistant", "tool")} | {
    "model": "assistant"
}
"""OpenAI's own name for ``system`` is not known to others that speak its protocol."""

_REASON: Final = "reason_of_its_end"
"""What parts of answers carry that agno leaves out."""

_CUT_OFF: Final = frozenset({"max_tokens", "length", "model_context_window_exceeded"})
_REFUSED: Final = frozenset({"refusal", "content_filter"})
"""Reasons for the end of an answer, of both APIs."""

Watch = Callable[[Exception | None], None]
"""Told of every part of an answer (``None``), and of what has ended one."""


def trust() -> ssl.SSLContext:
    """Whom the executor trusts. Blocks."""
    return trusting_context(os.environ)


def http_client(trusted: ssl.SSLContext) -> httpx2.AsyncClient:
    """What all clients of a turn share; the proxies are the executor's."""
    return httpx2.AsyncClient(verify=trusted, timeout=REQUEST_TIMEOUT)


def make_model(api: ModelApi, http: httpx2.AsyncClient, watch: Watch) -> Model:
    """The model of one member. *http* is closed by whoever made it."""
    model = _claude(api, http) if api.provider == "anthropic" else _openai(api, http)
    model.watch = watch
    return model


class _Watched:
    """A model that tells what it hears, since agno makes a sentence of every error.

    It also does the retries: the clients' own may take minutes without a word.
    """

    watch: Watch

    async def ainvoke_stream(
        self, messages: list[Message], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ModelResponse]:
        _mend(messages)
        for attempt in itertools.count():
            spoken, reason, usage = False, None, None
            try:
                async for part in super().ainvoke_stream(messages, *args, **kwargs):  # type: ignore[misc] # of the model that this is mixed into
                    spoken |= bool(part.content or part.reasoning_content or part.tool_calls)
                    if reason not in _REFUSED:  # OpenAI's ends with "stop" all the same
                        reason = getattr(part, _REASON, None) or reason
                    # Some servers count along: the last count is that of the whole answer.
                    usage, part.response_usage = part.response_usage or usage, None
                    self.watch(None)
                    yield part
                check_end(reason)
            except ModelProviderError as exc:
                pause = None if spoken or reason is not None else pause_s(exc, attempt)
                if pause is None:
                    self.watch(exc)
                    raise
            except Exception as exc:
                self.watch(exc)
                raise
            else:
                yield ModelResponse(response_usage=usage)
                return
            await asyncio.sleep(pause)


def _mend(messages: list[Message]) -> None:
    """Replace halves of characters, which JSON can bring: no later request could be sent."""
    for message in messages:
        if isinstance(message.content, str) and not message.content.isascii():
            message.content = message.content.encode("utf-8", "replace").decode()


def check_end(reason: str | None) -> None:
    """Refuse an answer that ends for *reason*, as its API names it, and is no whole answer.

    ``None``: its end has not come.

    Raises:
        ModelProviderError: It is none.
    """
    if reason is None:
        raise ModelProviderError("the API broke off its answer")
    if reason in _CUT_OFF:
        raise ModelProviderError(
            "the answer was cut off at the limit of its tokens; max_tokens in agent_config.env "
            "sets another"
        )
    if reason in _REFUSED:
        raise ModelProviderError("the model, or a filter of its API, refused to answer")


def pause_s(error: ModelProviderError, attempt: int) -> float | None:
    """Seconds until the API may be asked once more; ``None``: it is not asked again here.

    *attempt* counts from 0. What asking again cannot change is not asked again, nor what takes
    long: then it is the run that waits, and says so.
    """
    answer = error.__cause__
    status = status_of(answer)
    if attempt >= MAX_RETRIES or is_out_of_money(answer):
        return None
    if not (status is None or status in (408, 429) or status >= 500):
        return None
    now = time.time()
    lifted = lifted_at(headers_of(answer), now)
    if lifted is not None and lifted - now > LONGEST_PAUSE_S:
        return None
    backoff = FIRST_PAUSE_S * 2.0**attempt * random.uniform(0.5, 1.0)
    return max(backoff, (lifted or now) - now)


class _WatchedClaude(_Watched, Claude):
    def _parse_provider_response_delta(self, response: Any, *args: Any, **kw: Any) -> ModelResponse:
        part = super()._parse_provider_response_delta(response, *args, **kw)
        if response.type == "message_stop":
            setattr(part, _REASON, response.message.stop_reason or "end_turn")
        return part


class _WatchedOpenAI(_Watched, OpenAIChat):
    def _parse_provider_response_delta(self, response_delta: Any) -> ModelResponse:
        part = super()._parse_provider_response_delta(response_delta)
        for choice in response_delta.choices or ():
            refused = getattr(choice.delta, "refusal", None)
            setattr(part, _REASON, "refusal" if refused else choice.finish_reason)
        return part


def _claude(api: ModelApi, http: httpx2.AsyncClient) -> _WatchedClaude:
    client = AsyncAnthropic(
        api_key=api.api_key,
        auth_token=None if api.api_key else api.auth_token,
        base_url=api.base_url,
        max_retries=0,
        timeout=REQUEST_TIMEOUT,
        http_client=http,
        webhook_key="",
    )
    # It has read its own from the executor's environment. And it sends keys as bearer tokens, which
    # not every address takes that serves Claude Code.
    own: dict[str, Any] = {"X-Api-Key": api.api_key, "Authorization": Omit()} if api.api_key else {}
    client._custom_headers = own  # noqa: SLF001 - what is given to the client is only added
    return _WatchedClaude(
        id=api.model or Claude.id,
        max_tokens=api.max_tokens or Claude.max_tokens,
        async_client=client,
    )


def _openai(api: ModelApi, http: httpx2.AsyncClient) -> _WatchedOpenAI:
    client = AsyncOpenAI(
        api_key=api.api_key,
        base_url=api.base_url,
        max_retries=0,
        timeout=REQUEST_TIMEOUT,
        http_client=http,
    )
    # It has read these from the executor's environment.
    client.admin_api_key = client.organization = client.project = client.webhook_secret = None
    client._custom_headers = {}  # noqa: SLF001 - these, too
    return _WatchedOpenAI(
        id=api.model or OpenAIChat.id,
        max_completion_tokens=api.max_tokens,
        async_client=client,
        role_map=_ROLES,
    )
