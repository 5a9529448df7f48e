"""A server's chat completion: its tokens, its price, and its JSON."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from openai_server.faults import Reply
from openai_server.options import Options


def prompt_of(body: dict[str, Any]) -> str:
    """The text of a request: all messages together."""
    return "\n".join(message["content"] for message in body["messages"])


def prompt_tokens(body: dict[str, Any], options: Options) -> int:
    """The tokens that the server counts: always below the content's bytes + 16 per message + 32."""
    size = sum(len(message["content"].encode()) for message in body["messages"])
    return math.ceil(size / options.bytes_per_token) + 4 * len(body["messages"]) + 3


def max_tokens(body: dict[str, Any], options: Options) -> int:
    named = body.get("max_completion_tokens", body.get("max_tokens"))
    return options.default_max_tokens if named is None else int(named)


@dataclass(frozen=True)
class Tokens:
    """The tokens of one answer. `output` includes `reasoning`, `prompt` includes `cached`."""

    prompt: int
    cached: int
    output: int
    reasoning: int

    def cost(self, options: Options, *, batch: bool = False) -> int:
        """Pico-dollars; in a batch half of that, rounded up."""
        cached_price = options.input_price if options.cached_price is None else options.cached_price
        whole = (
            (self.prompt - self.cached) * options.input_price
            + self.cached * cached_price
            + self.output * options.output_price
        )
        return -(-whole // 2) if batch else whole

    def usage(self, options: Options) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.output,
            "total_tokens": self.prompt + self.output,
            "prompt_tokens_details": {"cached_tokens": self.cached, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning, "audio_tokens": 0},
        }
        if options.reasoning == "total":
            shown["completion_tokens"] = self.output - self.reasoning
            del shown["completion_tokens_details"]
        return shown


def count_tokens(body: dict[str, Any], reply: Reply, before: int, options: Options) -> Tokens:
    """The tokens of one answer: random, by seed, prompt and how often it was asked before."""
    draw = random.Random(f"{options.seed}:tokens:{before}:{prompt_of(body)}")
    most = max_tokens(body, options)
    output = draw.randint(1, most) if reply.completion_tokens is None else reply.completion_tokens
    if reply.finish_reason == "length" and reply.completion_tokens is None:
        output = most
    reasoning = draw.randint(0, output) if options.reasoning != "none" else 0
    prompt = prompt_tokens(body, options)
    return Tokens(prompt, int(prompt * options.cached_share), output, reasoning)


def _text(body: dict[str, Any], reply: Reply, options: Options) -> str:
    if reply.text is not None:
        return reply.text
    schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
    if schema is not None:
        return json.dumps(_fill(schema))
    return options.text.replace("{prompt}", body["messages"][-1]["content"])


def _fill(schema: dict[str, Any]) -> Any:
    """A value that fits a JSON schema, as in structured output."""
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    if kind == "object":
        return {name: _fill(part) for name, part in schema.get("properties", {}).items()}
    plain: dict[Any, Any] = {"array": [], "integer": 0, "number": 0.0, "boolean": False}
    return plain.get(kind, "something")


def completion(
    body: dict[str, Any], reply: Reply, tokens: Tokens, options: Options, number: int, now: int
) -> dict[str, Any]:
    """The `chat.completion` object."""
    content = None if reply.refusal is not None else _text(body, reply, options)
    if reply.finish_reason == "length" and content:
        content = content[: max(1, len(content) // 2)]
    message = {"role": "assistant", "content": content, "refusal": reply.refusal}
    answer: dict[str, Any] = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": now,
        "model": body["model"],
        "choices": [
            {
                "index": index,
                "message": message,
                "logprobs": None,
                "finish_reason": reply.finish_reason,
            }
            for index in range(reply.choices)
        ],
        "system_fingerprint": None,
    }
    if reply.usage:
        answer["usage"] = tokens.usage(options)
        if reply.zero_usage:
            answer["usage"] |= {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    return answer


def unsupported_in(body: dict[str, Any], options: Options) -> Iterator[str]:
    """The parameters of a request that the model does not support."""
    for name in options.refuses:
        if name in body and not (name == "temperature" and body[name] == 1):
            yield name
