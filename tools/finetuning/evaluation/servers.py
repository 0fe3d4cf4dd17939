"""One small protocol for every server: ``generate(messages, params)``, and ``nll`` where possible.

Here: the protocol, what goes wrong, and OpenAI-compatible servers over plain HTTP. Keys come from
the environment at the moment of the call, go to the host they belong to and are nowhere else.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, cast

from finetuning.errors import BadInputError, require
from finetuning.evaluation.targets import Answer, HttpTarget, address_of
from finetuning.records import Json

Messages = Sequence[Mapping[str, Json]]

TIMEOUT_SECONDS: Final = 120.0
"""Longest wait for one answer."""

_CUT: Final = frozenset({"length", "max_tokens", "MAX_TOKENS", "model_context_window_exceeded"})
_KEYS: Final = {
    "api.together.xyz": "TOGETHER_API_KEY",
    "api.together.ai": "TOGETHER_API_KEY",
    "api.fireworks.ai": "FIREWORKS_API_KEY",
    "api.openai.com": "OPENAI_API_KEY",
}
"""Host → variable with its key; no other host is sent one."""

PAUSE_SECONDS: tuple[float, float] = (0.5, 30.0)
"""Shortest and longest pause between two attempts, where the server asks for none."""
_LONGEST_RETRY_AFTER_SECONDS: Final = 120.0
AGAIN_STATUS: Final = frozenset({0, 408, 409, 425, 429, 500, 502, 503, 504, 529})
USELESS_STATUS: Final = frozenset({401, 402, 403, 404})
"""Key, account, permission, model: the next request would fail the same way."""


class Params(NamedTuple):
    """How to answer: most tokens, temperature, and which of several answers (from 0)."""

    max_tokens: int
    temperature: float = 0.0
    sample: int = 0


class RequestFailedError(Exception):
    """A request without an answer.

    Attributes:
        status: HTTP status; 0 where no reply came back.
        sent: The request may have reached the server, so it may have been paid for.
        wait: Seconds after which the server wants to be asked again, if it said so.
        about: Parameter that the server refuses, if it named one that can be left out.
    """

    def __init__(
        self, status: int, *, sent: bool = True, wait: float | None = None, about: str = ""
    ) -> None:
        """Keep what a retry depends on; the reply's text stays out (it may echo the prompt)."""
        super().__init__(f"status {status}")
        self.status, self.sent, self.wait, self.about = status, sent, wait, about


class Asker(Protocol):
    """A server that can be asked."""

    async def generate(self, messages: Messages | str, params: Params) -> Answer:
        """Return the answer to a chat, or to a raw text to continue.

        Raises:
            RequestFailedError: There is none.
        """
        ...

    async def nll(self, messages: Messages | str, answer: str) -> float | None:
        """Return nats per token of an answer, or None where the server cannot tell."""
        ...


def read_key(name: str, where: str) -> str:
    """Return a key from the environment.

    Raises:
        BadInputError: It is not set.
    """
    value = {
        "OPENAI_API_KEY": os.environ.get("OPENAI_API_KEY"),
        "AZURE_OPENAI_API_KEY": os.environ.get("AZURE_OPENAI_API_KEY"),
        "ANTHROPIC_API_KEY": os.environ.get("ANTHROPIC_API_KEY"),
        "TOGETHER_API_KEY": os.environ.get("TOGETHER_API_KEY"),
        "FIREWORKS_API_KEY": os.environ.get("FIREWORKS_API_KEY"),
    }[name]
    if not value:
        raise BadInputError(
            where, f"{name} is not set", "a key in the environment", f"Set {name} and ask again"
        )
    return value


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a server asks to wait, given as a number or as a date."""
    value = headers.get("retry-after", "").strip()
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    from email.utils import parsedate_to_datetime

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def to_answer(
    text: str | None, reason: object, started: float, tokens_in: object, tokens_out: object
) -> Answer:
    """Return an answer; an empty one is missing, whatever the server says of it."""
    there = isinstance(text, str) and bool(text.strip())
    ended = "length" if reason in _CUT else "stop" if there else "missing"
    return Answer(
        text if there else None,
        cast("Any", ended),
        time.perf_counter() - started,
        tokens_out if isinstance(tokens_out, int) else None,
        input_tokens=tokens_in if isinstance(tokens_in, int) else None,
    )


class CompatibleServer:
    """An OpenAI-compatible server: vLLM, Ollama, llama.cpp, LM Studio, ``transformers serve``."""

    def __init__(self, target: HttpTarget, client: Any) -> None:
        """Remember the server and the connections."""
        self._target, self._client = target, client
        host = f"[{target.host}]" if ":" in target.host else target.host
        scheme = "https" if target.secure else "http"
        self.url = f"{scheme}://{host}:{target.port}{target.path}"
        name = _KEYS.get(target.host) if target.secure else None
        self.headers = {"Authorization": f"Bearer {read_key(name, target.spec)}"} if name else {}

    async def generate(self, messages: Messages | str, params: Params) -> Answer:
        """Return the answer: chats go to /chat/completions, raw texts to /completions."""
        body: dict[str, Any] = {
            "model": self._target.model,
            "temperature": params.temperature,
            "max_tokens": params.max_tokens,
        }
        raw = isinstance(messages, str)
        body["prompt" if raw else "messages"] = messages if raw else list(messages)
        started = time.perf_counter()
        payload = await self._post("/completions" if raw else "/chat/completions", body)
        try:
            choice = payload["choices"][0]
            text = choice["text"] if raw else choice["message"]["content"]
            usage = cast("dict[str, Any]", payload.get("usage") or {})
            read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
            return to_answer(text, choice.get("finish_reason"), started, read, written)
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise RequestFailedError(200) from error

    async def nll(self, messages: Messages | str, answer: str) -> float | None:
        """Return nats per token from echoed log-probabilities (vLLM has them), raw texts only."""
        if not isinstance(messages, str):
            return None
        body = {
            "model": self._target.model,
            "prompt": messages + answer,
            **{"max_tokens": 1, "temperature": 0, "echo": True, "logprobs": 1},
        }
        payload = await self._post("/completions", body)
        try:
            known = payload["choices"][0]["logprobs"]
            pairs = zip(known["text_offset"], known["token_logprobs"], strict=True)
            end = len(messages) + len(answer)
            values = [float(p) for at, p in pairs if len(messages) <= at < end and p is not None]
            covered = known["text_offset"][0] == 0
        except (KeyError, IndexError, TypeError, ValueError):
            return None
        return -sum(values) / len(values) if values and covered else None

    async def _post(self, path: str, body: dict[str, Any]) -> Any:
        import httpx2

        try:
            reply = await self._client.post(self.url + path, json=body, headers=self.headers)
        except httpx2.ConnectError as error:
            raise RequestFailedError(0, sent=False) from error
        except httpx2.ConnectTimeout as error:
            raise RequestFailedError(0, sent=False) from error
        except (httpx2.HTTPError, OSError) as error:
            raise RequestFailedError(0) from error
        if reply.status_code != 200:
            raise RequestFailedError(reply.status_code, wait=retry_after(reply.headers))
        try:
            return reply.json()
        except ValueError as error:
            raise RequestFailedError(200) from error


def openai_client(vendor: str) -> Any:
    """Return a client of OpenAI, or of an Azure resource; nothing is sent yet."""
    module = cast("Any", require("openai", feature=f"{vendor}:MODEL", extra="openai"))
    if vendor == "openai":
        key, address = read_key("OPENAI_API_KEY", "openai"), address_of("openai")
    else:
        key, endpoint = read_key("AZURE_OPENAI_API_KEY", "azure"), address_of("azure")
        if endpoint is None:
            raise BadInputError(
                "azure",
                "AZURE_OPENAI_ENDPOINT is not set",
                "the address of the Azure OpenAI resource",
                "Set AZURE_OPENAI_ENDPOINT, for example https://NAME.openai.azure.com",
            )
        address = endpoint.rstrip("/") + "/openai/v1/"
    return module.AsyncOpenAI(api_key=key, base_url=address, max_retries=0, timeout=TIMEOUT_SECONDS)


def bedrock_client(where: str, at_once: int) -> Any:
    """Return a client of Amazon Bedrock; nothing is sent yet."""
    boto3 = cast("Any", require("boto3", feature=where, extra="bedrock"))
    config = cast("Any", require("botocore.config", feature=where, extra="bedrock"))
    region = os.environ.get("AWS_REGION")
    if not region:
        raise BadInputError(
            where, "AWS_REGION is not set", "the region that is asked", "Set AWS_REGION"
        )
    return boto3.client(
        "bedrock-runtime",
        region_name=region,
        endpoint_url=address_of("bedrock"),
        config=config.Config(
            retries={"total_max_attempts": 1},
            read_timeout=TIMEOUT_SECONDS,
            connect_timeout=10,
            max_pool_connections=at_once,
        ),
    )


def vertex_client(where: str) -> Any:
    """Return a client of Vertex AI; nothing is sent yet."""
    genai = cast("Any", require("google.genai", feature=where, extra="google"))
    options: dict[str, Any] = {
        "timeout": int(TIMEOUT_SECONDS * 1000),
        "retry_options": {"attempts": 1},
    }
    if address := address_of("vertex"):
        options["base_url"] = address
    key = os.environ.get("GOOGLE_API_KEY")
    if key:
        return genai.Client(vertexai=True, api_key=key, http_options=options)
    project = os.environ.get("GOOGLE_CLOUD_PROJECT")
    if not project:
        raise BadInputError(
            where,
            "GOOGLE_CLOUD_PROJECT is not set",
            "the project that is asked, and the usual Google credentials",
            "Set GOOGLE_CLOUD_PROJECT and GOOGLE_CLOUD_LOCATION, or GOOGLE_API_KEY",
        )
    return genai.Client(
        vertexai=True,
        project=project,
        location=os.environ.get("GOOGLE_CLOUD_LOCATION") or "us-central1",
        http_options=options,
    )


def pause_seconds(attempt: int, wait: float | None) -> float | None:
    """Return how long to wait before the next attempt, or None where that is too long.

    Args:
        attempt: Attempts that failed so far, less one.
        wait: What the server asked for (``Retry-After``), if it did.
    """
    if wait is not None:
        return wait if wait <= _LONGEST_RETRY_AFTER_SECONDS else None
    shortest, longest = PAUSE_SECONDS
    return min(longest, shortest * 2.0**attempt) * random.uniform(0.5, 1.0)
