"""The settings of `tutelage serve`."""

from __future__ import annotations

from pydantic import Field

from tutelage.config.escalation_settings import EscalationSettings
from tutelage.config.settings import Integer, Number, Text


class ServeSettings(EscalationSettings):
    """How an exported model is served."""

    host: Text = Field(
        "127.0.0.1",
        description="Address to listen on. Any other than this machine's own is reached by others: "
        "set a token.",
        examples=["0.0.0.0"],
    )
    port: Integer = Field(
        8000, ge=0, le=65535, description="Port; 0 takes a free one.", examples=[8080]
    )
    token: Text | None = Field(
        None,
        description="Bearer token that every request but /healthz and /readyz needs. In the "
        "environment it is TUTELAGE_TOKEN, which no list of processes shows. Default: none.",
        examples=["a-long-secret"],
    )
    cors_origins: tuple[Text, ...] = Field(
        (),
        description="Origins whose pages may call the server from a browser. Default: none.",
        examples=[["https://example.org"]],
    )
    max_body_bytes: Integer = Field(
        1_000_000, ge=1_000, description="Longest body of a request, in bytes.", examples=[100_000]
    )
    max_rows: Integer = Field(256, ge=1, description="Most rows of a request.", examples=[64])
    max_explained: Integer = Field(
        8, ge=1, description="Most rows of a request that asks for rationales.", examples=[1]
    )
    max_text_chars: Integer = Field(
        50_000, ge=1, description="Longest text of a field, in characters.", examples=[10_000]
    )
    queue_rows: Integer = Field(
        1024,
        ge=1,
        description="Most rows that wait. Beyond it a request is refused with 429 and the "
        "time to try again.",
        examples=[256],
    )
    receive_seconds: Number = Field(
        10.0,
        gt=0,
        description="Seconds within which a request's headers and body must have arrived.",
        examples=[5],
    )
    shutdown_seconds: Integer = Field(
        20,
        ge=1,
        description="Seconds that requests have to finish after SIGTERM.",
        examples=[60],
    )
    max_connections: Integer = Field(
        1000,
        ge=1,
        description="Most open connections; further ones get 503.",
        examples=[200],
    )
    escalation_seconds: Number = Field(
        30.0,
        gt=0,
        description="Seconds that a row waits for the teacher's answer; after that, the student's "
        "is given.",
        examples=[5],
    )
    log_texts: bool = Field(
        False, description="Write the texts of requests into the log too.", examples=[True]
    )
