"""The settings of a teacher: the model, how requests are made, and their budget."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from tutelage.config.settings import Integer, Number, Settings, Text

Mode = Literal["live", "batch"]

Parameter = float | int | str | bool | None | list[Any] | dict[str, Any]

DEFAULT_TEACHER = "openai:gpt-6-luna"
"""The teacher of drafted recipes and of examples, named here alone: a model that is served beyond
next year. By default it reasons first, which costs tokens that nobody sees."""

DEFAULT_TEACHER_SETTINGS: Mapping[str, Any] = {"reasoning_effort": "none", "max_tokens": 400}
"""How the default teacher is asked. It takes neither `temperature` nor `seed`."""

KEY_VARIABLES: Mapping[str, str] = {
    "openai": "OPENAI_API_KEY",
    "anthropic": "ANTHROPIC_API_KEY",
    "gemini": "GEMINI_API_KEY",
}
"""The schemes of teachers that are servers, and the variable that holds the key of each."""

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OURS = {
    "model": "model",
    "messages": "the strategy",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "reasoning_effort": "reasoning_effort",
    "response_format": "structured",
}
_NEVER = {
    "stream": "answers are read as a whole",
    "n": "each request has one answer",
    "tools": "an answer is a text",
    "functions": "an answer is a text",
    "system": "the strategy sets it",
    "contents": "the strategy sets it",
    "systemInstruction": "the strategy sets it",
}


class PriceOverride(Settings):
    """A teacher's price in US dollars per million tokens, in place of the published one."""

    input: Number = Field(ge=0, description="Price of input tokens.", examples=[0.5])
    output: Number = Field(ge=0, description="Price of output tokens.", examples=[1.5])
    cached_input: Number | None = Field(
        None,
        ge=0,
        description="Price of input tokens that the server had cached. "
        "Default: the price of other input tokens.",
        examples=[0.25],
    )


FREE = PriceOverride(input=0, output=0)
"""The price that `price: 0` stands for."""


def _free(value: Any) -> Any:
    return FREE if value == 0 and not isinstance(value, bool) else value


def _header_values(value: Any) -> Any:
    """Check headers. A message never repeats a value: it may be a secret."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ValueError("names and values are needed, such as {X-Trace: abc}")
    for name, text in value.items():
        if not isinstance(name, str) or not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a header")
        if not isinstance(text, str) or not (text.isascii() and text.isprintable()):
            raise ValueError(f"the value of {name!r} is not one line of plain text")
    return dict(value)


def _json_object(value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError("expected keys and values, such as {provider: {order: [one]}}")
    try:
        return json.loads(json.dumps(dict(value), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"expected what JSON can represent ({error})") from error


JsonObject = Annotated[dict[str, Any], BeforeValidator(_json_object)]
Headers = Annotated[dict[str, str] | None, BeforeValidator(_header_values)]


class TeacherSettings(Settings):
    """Which teacher, and how requests to it are made. Sampling parameters that are not set are not
    sent.
    """

    model: Text = Field(
        description="The teacher: `openai:MODEL` for OpenAI or any server with its protocol, "
        "`anthropic:MODEL` and `gemini:MODEL` for these two, `gguf:PATH` or "
        "`package:PACKAGE/FILE.gguf` for a local model (`package:NAME` for one in parts), "
        "`recorded:FILE#KEY` for recorded answers, "
        "`scripted` for the reasons in synthetic data, or a plugin's `SCHEME:NAME`.",
        examples=[DEFAULT_TEACHER],
    )
    base_url: Text | Annotated[tuple[Text, ...], Field(min_length=1)] | None = Field(
        None,
        description="Address of an OpenAI-compatible server, up to and including `/v1`; or a list "
        "of the addresses of several that serve one model. Default: the provider's own.",
        examples=["http://localhost:8000/v1", ["http://gpu-1:8000/v1", "http://gpu-2:8000/v1"]],
    )
    api_key_env: Text | None = Field(
        None,
        description="Name of the environment variable that holds the server's key. Default: "
        "`OPENAI_API_KEY`, `ANTHROPIC_API_KEY` or `GEMINI_API_KEY`.",
        examples=["MY_SERVER_KEY"],
    )
    provider: Text | None = Field(
        None,
        description="A name for the server, stored with the answers instead of its address, so "
        "that they are found again when the address changes. Default for a list of addresses: "
        "`pool`, whichever they are.",
        examples=["my-cluster"],
    )
    temperature: Number | None = Field(
        None, ge=0, description="Sampling temperature.", examples=[0.2]
    )
    seed: Integer | None = Field(
        None, ge=-(2**63), lt=2**63, description="Sampling seed.", examples=[123]
    )
    max_tokens: Integer | None = Field(
        None, ge=1, description="Longest answer, in tokens. A budget needs it.", examples=[400]
    )
    top_p: Number | None = Field(
        None, gt=0, le=1, description="Nucleus sampling: share of the probability.", examples=[0.9]
    )
    concurrency: Integer = Field(
        8,
        ge=1,
        description="Requests in flight at once, at most; fewer while the server cannot keep up. "
        "Of several servers, each has this limit and those of the rates.",
        examples=[64],
    )
    timeout_s: Number = Field(
        120.0,
        gt=0,
        description="Seconds to wait for one answer, including the connection.",
        examples=[30],
    )
    max_failed: Annotated[Integer, Field(ge=0)] | Literal["never"] | None = Field(
        None,
        description="Rows that may fail before annotation stops. Default: one in a hundred, at "
        "least 10. `never`: failed rows never stop it.",
        examples=[50],
    )
    requests_per_minute: Number | None = Field(
        None,
        gt=0,
        description="Rate limit. Default: what the server's headers say.",
        examples=[500],
    )
    tokens_per_minute: Number | None = Field(
        None,
        gt=0,
        description="Rate limit. Default: what the server's headers say.",
        examples=[200000],
    )
    budget_usd: Number | None = Field(
        None,
        ge=0,
        description="US dollars that all runs of one name may be charged in total. Never "
        "exceeded. Default: no limit.",
        examples=[5],
    )
    price: Annotated[PriceOverride | None, BeforeValidator(_free)] = Field(
        None,
        description="Price in US dollars per million tokens, where none is published or yours "
        "differs; `0` for a free teacher.",
        examples=[{"input": 0.5, "output": 1.5}],
    )
    mode: Mode = Field(
        "live",
        description="`live`: each request is answered at once. `batch`: the batch API, half the "
        "price, answered within a day.",
        examples=["batch"],
    )
    structured: bool = Field(
        False,
        description="Request answers as JSON that matches the strategy's schema, where it has one.",
        examples=[True],
    )

    reasoning_effort: Text | None = Field(
        None,
        description="How much the model reasons before it answers, in the server's words; `none` "
        "for not at all, where the model allows it. Hidden reasoning is charged as output.",
        examples=["none"],
    )
    extra_body: JsonObject | None = Field(
        None,
        description="Further keys of each request, as the server documents them: thinking off, "
        "provider routing, arguments of the chat template. They are part of an answer's key.",
        examples=[{"chat_template_kwargs": {"enable_thinking": False}}],
    )
    headers: Headers = Field(
        None,
        exclude=True,
        repr=False,
        description="Further headers of each request. `${NAME}` is an environment variable. They "
        "are never stored, and no part of an answer's key.",
        examples=[{"X-Trace": "${TRACE_ID}"}],
    )
    api_key_header: Text | None = Field(
        None,
        pattern=f"^{_HEADER_NAME.pattern}$",
        description="Header that carries the key alone, as for Azure's classic endpoint. Default: "
        "`Authorization: Bearer KEY`.",
        examples=["api-key"],
    )
    ca_file: Text | None = Field(
        None,
        description="A file of certificates (PEM) to trust instead of the system's: for a server "
        "or a proxy with a certificate of its own.",
        examples=["company-ca.pem"],
    )
    reasoning_markup: tuple[Text, Text] | Literal["none"] | None = Field(
        None,
        description="What begins and what ends the reasoning in an answer's text, in addition to "
        "the known mark-ups, which are always separated; `none`: separate nothing.",
        examples=[["((plan))", "((/plan))"]],
    )
    batch_fallback: Literal["live"] | None = Field(
        None,
        description="`live`: requests that batches leave without an answer are made live, at the "
        "full price. Default: the run stops and says why.",
        examples=["live"],
    )
    threads: Integer | None = Field(
        None,
        ge=1,
        description="Threads of a local model. Default: all cores that trainings leave free.",
        examples=[4],
    )

    @field_validator("extra_body")
    @classmethod
    def _only_what_is_not_ours(cls, extra: Any) -> Any:
        for name in extra or {}:
            if name in _OURS:
                raise ValueError(f"{name!r} is not for extra_body: {_OURS[name]} sets it")
            if name in _NEVER:
                raise ValueError(f"{name!r} is not for extra_body: {_NEVER[name]}")
        return extra

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    @property
    def own_markup(self) -> tuple[str, str] | None:
        """The mark-up of reasoning that the recipe names, if it names one."""
        return self.reasoning_markup if isinstance(self.reasoning_markup, tuple) else None

    @model_validator(mode="after")
    def _is_bounded(self) -> Self:
        free = self.price == FREE or (self.price is None and not self.remote)
        if self.budget_usd is not None and self.max_tokens is None and not free:
            raise ValueError(
                "budget_usd is set, but nothing bounds the length of an answer: set max_tokens "
                "(the paper used 400)"
            )
        if len(self.addresses) > 1 and self.mode == "batch":
            raise ValueError(
                f"base_url lists {len(self.addresses)} servers, but a batch stays at the one that "
                "took it: name one address for mode: batch, or set mode: live"
            )
        if self.scheme == "anthropic" and self.max_tokens is None:
            raise ValueError(f"{self.model} needs max_tokens: the server requires it")
        if self.scheme == "anthropic" and self.seed is not None:
            raise ValueError(f"{self.model} takes no seed: remove seed")
        return self

    @property
    def scheme(self) -> str:
        """What precedes the colon in `model`."""
        return self.model.partition(":")[0]

    @property
    def remote(self) -> bool:
        """Whether the teacher is a server, which may charge and limit the rate of requests."""
        return self.scheme in KEY_VARIABLES and ":" in self.model

    @property
    def addresses(self) -> tuple[str | None, ...]:
        """The addresses in `base_url`, in its order; None for the provider's own."""
        return self.base_url if isinstance(self.base_url, tuple) else (self.base_url,)

    @property
    def each_server(self) -> tuple[TeacherSettings, ...]:
        """The settings of each server alone, in the order of `base_url`."""
        if not isinstance(self.base_url, tuple):
            return (self,)
        return tuple(self.replace(base_url=address) for address in self.base_url)

    @property
    def key_variable(self) -> str:
        """The environment variable that holds the server's key."""
        return self.api_key_env or KEY_VARIABLES.get(self.scheme, KEY_VARIABLES["openai"])

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The sampling parameters that are set, by their names in the API."""
        values: dict[str, Parameter | None] = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "reasoning_effort": self.reasoning_effort,
        }
        found: dict[str, Parameter] = {n: value for n, value in values.items() if value is not None}
        return found | (self.extra_body or {})

    def failure_limit(self, rows: int | None) -> int | None:
        """The number of rows that may fail before annotation stops; None where there is no limit.

        rows: number of rows to annotate; None where it is unknown, for a limit of 100
        """
        if self.max_failed == "never":
            return None
        if self.max_failed is not None:
            return self.max_failed
        return 100 if rows is None else max(rows // 100, 10)
