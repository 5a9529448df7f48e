"""The application: predictions, health, metrics, the OpenAPI description and the web page."""

from __future__ import annotations

import html
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from typing import Any, TextIO

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tutelage.config.serve_settings import ServeSettings
from tutelage.deliver.escalation import Escalation, by_student
from tutelage.deliver.exported import ExportedModel
from tutelage.deliver.serving.bodies import (
    BodyError,
    answer_of,
    model_of,
    read_body,
    request_schema,
)
from tutelage.deliver.serving.guards import RequestLog, TokenGuard
from tutelage.deliver.serving.queue import BatchQueue, QueueFullError
from tutelage.deliver.serving.teacher_queue import TeacherQueue

_PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_DRAINED = 8
"""How many times the longest body is read before the connection is closed."""

_ERROR = {"type": "object", "properties": {"detail": {"type": "string"}}, "required": ["detail"]}


def _metrics(
    queue: BatchQueue, escalation: Escalation | None
) -> tuple[CollectorRegistry, dict[str, Any]]:
    registry = CollectorRegistry()
    if escalation is not None:
        charged = Gauge(
            "tutelage_teacher_charged_usd",
            "US dollars that are charged to the budget of the teacher's answers.",
            registry=registry,
        )
        charged.set_function(lambda: escalation.labels.charged_usd)
    waiting = Gauge("tutelage_waiting_rows", "Rows that wait or are computed.", registry=registry)
    waiting.set_function(lambda: queue.waiting)
    return registry, {
        "requests": Counter(
            "tutelage_requests", "Requests.", ["path", "status"], registry=registry
        ),
        "seconds": Histogram(
            "tutelage_request_seconds", "Seconds of a request.", ["path"], registry=registry
        ),
        "rows": Counter("tutelage_rows", "Rows that were predicted.", ["label"], registry=registry),
        "cut": Counter("tutelage_cut_rows", "Rows whose text was cut.", registry=registry),
        "below": Counter(
            "tutelage_rows_below_threshold", "Rows below the threshold.", registry=registry
        ),
        "teacher": Counter(
            "tutelage_rows_by_teacher", "Rows that the teacher answered.", registry=registry
        ),
        "batch": Histogram(
            "tutelage_batch_rows",
            "Rows of a batch.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            registry=registry,
        ),
    }


def make_app(
    model: ExportedModel,
    settings: ServeSettings,
    *,
    threshold: float | None = None,
    escalation: Escalation | None = None,
    log: TextIO | None = None,
) -> FastAPI:
    """The application that serves a model.

    threshold: probability from which an answer is trusted; None: the export's own
    escalation: answers what is below the threshold; None: the student answers all rows
    log:       where the log goes; None: standard error

    `app.state.stopping` is set when the server is to end: /readyz then says no.
    """
    record = model.record
    fields, labels = record.task.fields, record.task.labels
    limit = record.threshold if threshold is None else threshold
    queue = BatchQueue(model, settings.queue_rows, lambda rows: metrics["batch"].observe(rows))
    registry, metrics = _metrics(queue, escalation)
    teachers = (
        None
        if escalation is None
        else TeacherQueue(escalation, settings.escalation_seconds, settings.queue_rows, log)
    )
    said = {
        "model": model_of(record, limit),
        "teacher": None if escalation is None else escalation.model,
    }

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        queue.start()
        if teachers is not None:
            teachers.start()
        yield
        if teachers is not None:
            await teachers.stop()
        await queue.stop()

    app = FastAPI(
        title=f"{record.task.name}: {', '.join(fields)} → {', '.join(labels)}",
        version=record.sha256[:12],
        description="A student that Tutelage trained and exported.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.stopping = False
    paths = {"/", "/predict", "/info", "/healthz", "/readyz", "/metrics", "/docs", "/openapi.json"}

    def count(path: str, status: int, seconds: float) -> None:
        # A stranger's paths are one name, or each would be a new series.
        known = path if path in paths else "other"
        metrics["requests"].labels(known, str(status)).inc()
        metrics["seconds"].labels(known).observe(seconds)

    @app.post(
        "/predict",
        summary="Predict one row, or several.",
        responses={
            code: {"description": text, "content": {"application/json": {"schema": _ERROR}}}
            for code, text in {
                401: "The token is missing or wrong.",
                408: "The request did not arrive in time.",
                413: "The body, a text or the list of rows is too long.",
                415: "The body is not JSON.",
                422: "The body is not as expected.",
                429: "Too many rows wait: try again after Retry-After seconds.",
            }.items()
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": request_schema(record.task, settings, record.examples)
                    }
                },
            }
        },
    )
    async def predict(request: Request) -> JSONResponse:
        """Each answer has the label and who gave it, the student's probabilities, how many tokens
        of its text were cut, whether it reaches the threshold, and what the teacher's label cost
        where the teacher was asked; the answer names the model by its digest."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise BodyError(415, f"content-type: got {kind[:80]!r}, expected application/json")
        body = read_body(await _content(request, settings.max_body_bytes), record, settings)
        facts = request.scope["state"]["log"]
        facts["rows"] = len(body.rows)
        if settings.log_texts:
            facts["texts"] = [dict(row.fields) for row in body.rows]
        found = await queue.predict(body.rows, body.explain)
        facts["cut_rows"] = sum(p.truncated for p in found)
        metrics["cut"].inc(facts["cut_rows"])
        if teachers is None:
            final = [by_student(prediction) for prediction in found]
        else:
            final = await teachers.answer(body.rows, found)
            facts["teacher_rows"] = sum(one.answered_by == "teacher" for one in final)
        answers = [answer_of(prediction, limit) for prediction in final]
        for answer in answers:
            metrics["rows"].labels(answer["label"]).inc()
            metrics["below"].inc(answer["trusted"] is False)
            metrics["teacher"].inc(answer["answered_by"] == "teacher")
        return JSONResponse(
            {"prediction": answers[0], **said} if body.single else {"predictions": answers, **said}
        )

    @app.get("/info", summary="The model and its task.")
    async def info() -> dict[str, Any]:
        return {
            "task": {
                "name": record.task.name,
                "fields": list(record.task.fields),
                "labels": list(record.task.labels),
            },
            **said,
            "rationales": record.rationale_engine != "none",
            "max_source_tokens": record.max_source_tokens,
            "max_text_chars": settings.max_text_chars,
            "examples": [dict(example) for example in record.examples],
        }

    @app.get("/healthz", summary="Whether the process answers.")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get(
        "/readyz",
        summary="Whether it takes requests.",
        responses={503: {"description": "It is ending, or its queue is full."}},
    )
    async def readyz() -> JSONResponse:
        if app.state.stopping or queue.waiting >= settings.queue_rows:
            return JSONResponse({"status": "ending" if app.state.stopping else "busy"}, 503)
        return JSONResponse({"status": "ready"})

    @app.get("/metrics", summary="Counts for Prometheus.", response_class=PlainTextResponse)
    async def count_for_prometheus() -> PlainTextResponse:
        return PlainTextResponse(
            generate_latest(registry), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(
            _described(app.openapi()), headers={"content-security-policy": _PAGE_POLICY}
        )

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        text = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
        return HTMLResponse(text, headers={"content-security-policy": _PAGE_POLICY})

    @app.exception_handler(BodyError)
    async def refused(_: Request, error: BodyError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, error.status)

    @app.exception_handler(QueueFullError)
    async def full(_: Request, error: QueueFullError) -> JSONResponse:
        return JSONResponse(
            {"detail": str(error)}, 429, headers={"retry-after": str(error.seconds)}
        )

    if settings.token is not None:
        app.add_middleware(TokenGuard, token=settings.token)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"],
        )
    app.add_middleware(RequestLog, on_request=count, stream=log)
    return app


async def _content(request: Request, most: int) -> bytes:
    """The body. Raises BodyError where it is longer than `most` bytes.

    A longer one is read on for a while, and dropped: a client that is still sending when the
    connection is closed never sees the answer.
    """
    said = request.headers.get("content-length", "")
    length = int(said) if said.isdigit() else 0
    content, read = bytearray(), 0
    if length <= _DRAINED * most:
        async for part in request.stream():
            read += len(part)
            if max(read, length) <= most:
                content += part
            elif read > _DRAINED * most:
                break
    if max(read, length) > most:
        raise BodyError(413, f"the body has more than {most:,} bytes: send fewer rows in a request")
    return bytes(content)


def _described(description: dict[str, Any]) -> str:
    """The OpenAPI description as a page that loads nothing."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width'>"
        f"<title>{html.escape(description['info']['title'])}</title>"
        "<style>:root{color-scheme:light dark}body{font:1rem/1.5 system-ui;max-width:60rem;"
        "margin:2rem auto;padding:0 1rem}pre{overflow:auto;padding:1rem;border:1px solid #8888}"
        "</style>",
        f"<h1>{html.escape(description['info']['title'])}</h1>",
        "<p>The description for programs: <a href=/openapi.json>/openapi.json</a></p>",
    ]
    for path, methods in description["paths"].items():
        for method, said in methods.items():
            parts.append(f"<h2>{method.upper()} {html.escape(path)}</h2>")
            parts.append(f"<p>{html.escape(said.get('summary', ''))}</p>")
            parts.append(f"<p>{html.escape(said.get('description', ''))}</p>")
            if "requestBody" in said:
                schema = said["requestBody"]["content"]["application/json"]["schema"]
                text = json.dumps(schema, indent=2, ensure_ascii=False)
                parts.append(f"<pre>{html.escape(text)}</pre>")
            rows = "".join(
                f"<li>{html.escape(code)}: {html.escape(answer.get('description', ''))}</li>"
                for code, answer in said["responses"].items()
            )
            parts.append(f"<ul>{rows}</ul>")
    return "".join(parts)
