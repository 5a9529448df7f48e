"""The settings of a teacher: the model, how requests are made, and their budget."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from tutelage.config.settings import Integer, Number, Settings, Text

Mode = Literal["live", "batch"]

Parameter = float | int | str | dict[str, Any]


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


class TeacherSettings(Settings):
    """Which teacher, and how requests to it are made. Sampling parameters that are not set are not
    sent.
    """

    model: Text = Field(
        description="The teacher: `openai:MODEL` for a server, `gguf:PATH` or "
        "`package:PACKAGE/FILE.gguf` for a local model, `recorded:FILE#KEY` for recorded answers, "
        "`scripted` for the reasons in synthetic data, or a plugin's `SCHEME:NAME`.",
        examples=["openai:gpt-4.1-mini"],
    )
    base_url: Text | None = Field(
        None,
        description="Address of an OpenAI-compatible server, up to and including `/v1`. "
        "Default: OpenAI's own.",
        examples=["http://localhost:8000/v1"],
    )
    api_key_env: Text = Field(
        "OPENAI_API_KEY",
        description="Name of the environment variable that holds the server's key.",
        examples=["MY_SERVER_KEY"],
    )
    provider: Text | None = Field(
        None,
        description="A name for the server, stored with the answers instead of its address, so "
        "that they are found again when the address changes.",
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
        description="Requests in flight at once, at most; fewer while the server cannot keep up.",
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

    @property
    def remote(self) -> bool:
        """Whether the teacher is a server, which may charge and limit the rate of requests."""
        return self.model.startswith("openai:")

    @property
    def parameters(self) -> dict[str, Parameter]:
        """The sampling parameters that are set, by their names in the API."""
        values: dict[str, Parameter | None] = {
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
            "seed": self.seed,
        }
        return {name: value for name, value in values.items() if value is not None}

    def failure_limit(self, rows: int | None) -> int | None:
        """The number of rows that may fail before annotation stops; None where there is no limit.

        rows: number of rows to annotate; None where it is unknown, for a limit of 100
        """
        if self.max_failed == "never":
            return None
        if self.max_failed is not None:
            return self.max_failed
        return 100 if rows is None else max(rows // 100, 10)
