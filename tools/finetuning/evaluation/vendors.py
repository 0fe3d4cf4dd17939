"""Models of vendors, asked through the vendors' own packages, imported when they are asked first.

OpenAI and Azure, Anthropic, Bedrock (converse) and Vertex. The packages' own retries are off:
one place decides what is asked again.
Source: openai 3.51.0, anthropic 2.10.0, boto3 1.44.5, google-genai 3.3.0 as installed (checked
2026-11-20); knowledge: evaluation.md#targets
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Generator
from typing import TYPE_CHECKING, Any, Final, cast

from finetuning.errors import BadInputError, require
from finetuning.evaluation.inputs import message_text
from finetuning.evaluation.servers import (
    TIMEOUT_SECONDS,
    Asker,
    CompatibleServer,
    Messages,
    Params,
    RequestFailedError,
    bedrock_client,
    openai_client,
    read_key,
    retry_after,
    to_answer,
    vertex_client,
)
from finetuning.evaluation.targets import Answer, AskedTarget, HttpTarget, address_of

if TYPE_CHECKING:
    from concurrent.futures import Executor

_SPOKEN: Final = frozenset({"system", "developer", "user", "assistant"})


@contextlib.asynccontextmanager
async def open_asker(target: AskedTarget, at_once: int) -> AsyncGenerator[Asker]:
    """Give a way to ask a target; connections close at the end, also when cancelled.

    Args:
        target: The server or the vendor's model.
        at_once: Most requests at a time.

    Raises:
        MissingExtraError: The vendor's package is not installed.
        BadInputError: The key or address is not in the environment.
    """
    if isinstance(target, HttpTarget):
        import httpx2

        limits = httpx2.Limits(max_connections=at_once, max_keepalive_connections=at_once)
        options: dict[str, Any] = {"timeout": TIMEOUT_SECONDS, "limits": limits}
        # a proxy of the environment would carry a loopback question to another machine
        options["trust_env"] = not target.loopback
        async with httpx2.AsyncClient(**options) as client:
            yield CompatibleServer(target, client)
    elif target.vendor in {"openai", "azure"}:
        async with openai_client(target.vendor) as client:
            yield OpenAIModel(client, target.model)
    elif target.vendor == "anthropic":
        module = cast("Any", require("anthropic", feature=target.spec, extra="anthropic"))
        key = read_key("ANTHROPIC_API_KEY", target.spec)
        options = {"base_url": address_of("anthropic"), "max_retries": 0}
        async with module.AsyncAnthropic(api_key=key, timeout=TIMEOUT_SECONDS, **options) as client:
            yield AnthropicModel(client, target.model)
    elif target.vendor == "bedrock":
        from concurrent.futures import ThreadPoolExecutor

        pool = ThreadPoolExecutor(max_workers=at_once)
        try:
            yield BedrockModel(bedrock_client(target.spec, at_once), target.model, pool)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    else:
        client = vertex_client(target.spec)
        try:
            yield VertexModel(client, target.model)
        finally:
            await client.aio.aclose()


def _turns(messages: Messages | str) -> tuple[str, list[dict[str, str]]]:
    """Return the instruction and the turns as texts; a raw text is one turn of the user."""
    if isinstance(messages, str):
        return "", [{"role": "user", "content": messages}]
    if any(message.get("role") not in _SPOKEN for message in messages):
        raise RequestFailedError(400, sent=False)  # tool turns have a form of their own everywhere
    heads = [m for m in messages if m.get("role") in {"system", "developer"}]
    rest = [m for m in messages if m.get("role") in {"user", "assistant"}]
    turns = [{"role": str(m["role"]), "content": message_text(m)} for m in rest]
    return "\n\n".join(message_text(message) for message in heads), turns


@contextlib.contextmanager
def _api_errors(module: Any) -> Generator[None]:
    """Turn the errors of the OpenAI and Anthropic packages, which share their names, into ours."""
    try:
        yield
    except module.APITimeoutError as error:
        raise RequestFailedError(0) from error
    except module.APIConnectionError as error:
        refused = "Connect" in type(error.__cause__).__name__
        raise RequestFailedError(0, sent=not refused) from error
    except module.APIStatusError as error:
        wait = retry_after(error.response.headers)
        about = "temperature" if "temperature" in str(error.message) else ""
        raise RequestFailedError(error.status_code, wait=wait, about=about) from error
    except module.APIError as error:
        raise RequestFailedError(200) from error


class _ChatOnly:
    """What the vendors' models share: no raw texts to continue, no likelihood of a given answer."""

    def __init__(self) -> None:
        """Begin with the temperature that is asked for."""
        self.fixed_temperature = False

    async def generate(self, messages: Messages | str, params: Params) -> Answer:
        """Return the answer to a chat; a raw text is asked as one turn of the user.

        A model that refuses to be given a temperature is asked without one from then on.

        Raises:
            RequestFailedError: There is none.
        """
        named = not self.fixed_temperature  # of several requests at once each may be the first
        try:
            return await self._ask(messages, params)
        except RequestFailedError as error:
            if error.about != "temperature" or not named:
                raise
            self.fixed_temperature = True
            return await self._ask(messages, params)

    async def nll(self, messages: Messages | str, answer: str) -> float | None:
        """Return None: these services score no text that they did not write."""
        return None

    def _heat(self, params: Params, name: str = "temperature") -> dict[str, Any]:
        return {} if self.fixed_temperature else {name: params.temperature}

    async def _ask(self, messages: Messages | str, params: Params) -> Answer:
        raise RequestFailedError(501, sent=False)


class OpenAIModel(_ChatOnly):
    """A model of OpenAI, or a deployment on Azure."""

    def __init__(self, client: Any, model: str) -> None:
        """Remember the connections and the model."""
        super().__init__()
        self._client, self._model = client, model

    async def _ask(self, messages: Messages | str, params: Params) -> Answer:
        import openai

        raw = isinstance(messages, str)
        turns = [{"role": "user", "content": messages}] if raw else list(messages)
        started = time.perf_counter()
        with _api_errors(openai):
            reply = await self._client.chat.completions.create(
                model=self._model,
                messages=turns,
                max_completion_tokens=params.max_tokens,
                **self._heat(params),
            )
        if not reply.choices:
            raise RequestFailedError(200)
        choice, usage = reply.choices[0], reply.usage
        read, written = getattr(usage, "prompt_tokens", 0), getattr(usage, "completion_tokens", 0)
        return to_answer(choice.message.content, choice.finish_reason, started, read, written)


class AnthropicModel(_ChatOnly):
    """A model of Anthropic."""

    def __init__(self, client: Any, model: str) -> None:
        """Remember the connections and the model."""
        super().__init__()
        self._client, self._model = client, model

    async def _ask(self, messages: Messages | str, params: Params) -> Answer:
        import anthropic

        head, turns = _turns(messages)
        more: dict[str, Any] = {"system": head} if head else {}
        if heat := self._heat(params):  # anthropic 2.10 has no such argument, older models do
            more["extra_body"] = heat
        started = time.perf_counter()
        with _api_errors(anthropic):
            reply = await self._client.messages.create(
                model=self._model, max_tokens=params.max_tokens, messages=turns, **more
            )
        text = "".join(block.text for block in reply.content if block.type == "text")
        usage = reply.usage
        return to_answer(text, reply.stop_reason, started, usage.input_tokens, usage.output_tokens)


class BedrockModel(_ChatOnly):
    """A model on Amazon Bedrock, through the converse call; boto3 blocks, so threads ask."""

    def __init__(self, client: Any, model: str, pool: Executor) -> None:
        """Remember the connections, the model and the threads."""
        super().__init__()
        self._client, self._model, self._pool = client, model, pool

    async def _ask(self, messages: Messages | str, params: Params) -> Answer:
        head, turns = _turns(messages)
        body: dict[str, Any] = {
            "modelId": self._model,
            "messages": [{"role": t["role"], "content": [{"text": t["content"]}]} for t in turns],
            "inferenceConfig": {"maxTokens": params.max_tokens, **self._heat(params)},
            **({"system": [{"text": head}]} if head else {}),
        }
        started = time.perf_counter()
        loop = asyncio.get_running_loop()
        reply = await loop.run_in_executor(self._pool, self._converse, body)
        try:
            parts = reply["output"]["message"]["content"]
            text = "".join(part["text"] for part in parts if "text" in part)
        except (KeyError, TypeError) as error:
            raise RequestFailedError(200) from error
        usage = reply.get("usage", {})
        read, written = usage.get("inputTokens"), usage.get("outputTokens")
        return to_answer(text, reply.get("stopReason"), started, read, written)

    def _converse(self, body: dict[str, Any]) -> Any:
        untyped = cast("Any", require("botocore.exceptions", feature="bedrock", extra="bedrock"))
        try:
            return self._client.converse(**body)
        except untyped.ClientError as error:
            facts = error.response.get("ResponseMetadata", {})
            message = str(error.response.get("Error", {}).get("Message", ""))
            raise RequestFailedError(
                int(facts.get("HTTPStatusCode", 400)),
                wait=retry_after(facts.get("HTTPHeaders", {})),
                about="temperature" if "temperature" in message else "",
            ) from error
        except (untyped.EndpointConnectionError, untyped.ConnectTimeoutError) as error:
            raise RequestFailedError(0, sent=False) from error
        except untyped.HTTPClientError as error:
            raise RequestFailedError(0) from error
        except untyped.BotoCoreError as error:  # nothing was sent: credentials, region, address
            raise BadInputError(
                f"bedrock:{self._model}",
                f"boto3 refuses to ask ({type(error).__name__})",
                "credentials, a region and an address that fit",
                "Set AWS_REGION and AWS_BEARER_TOKEN_BEDROCK, or the usual AWS credentials",
            ) from None


class VertexModel(_ChatOnly):
    """A model on Vertex AI."""

    def __init__(self, client: Any, model: str) -> None:
        """Remember the connections and the model."""
        super().__init__()
        self._client, self._model = client, model

    async def _ask(self, messages: Messages | str, params: Params) -> Answer:
        untyped = cast("Any", require("google.genai.errors", feature="vertex", extra="google"))
        head, turns = _turns(messages)
        roles = {"user": "user", "assistant": "model"}
        contents = [{"role": roles[t["role"]], "parts": [{"text": t["content"]}]} for t in turns]
        config: dict[str, Any] = {"max_output_tokens": params.max_tokens, **self._heat(params)}
        if head:
            config["system_instruction"] = head
        started = time.perf_counter()
        try:
            reply = await self._client.aio.models.generate_content(
                model=self._model, contents=contents, config=config
            )
        except untyped.APIError as error:
            headers = cast("dict[str, str]", getattr(error.response, "headers", None) or {})
            about = "temperature" if "temperature" in str(error.message) else ""
            wait = retry_after(headers)
            raise RequestFailedError(int(error.code), wait=wait, about=about) from error
        except (OSError, ValueError) as error:
            raise RequestFailedError(0) from error
        except Exception as error:  # the package lets the errors of its HTTP library through
            refused = "Connect" in type(error).__name__
            raise RequestFailedError(0, sent=not refused) from error
        candidate = reply.candidates[0] if reply.candidates else None
        reason = getattr(getattr(candidate, "finish_reason", None), "value", None)
        usage = reply.usage_metadata
        written = (getattr(usage, "candidates_token_count", 0) or 0) + (
            getattr(usage, "thoughts_token_count", 0) or 0
        )
        read = getattr(usage, "prompt_token_count", None)
        return to_answer(reply.text if candidate else None, reason, started, read, written)
