"""What /docs shows of each route: an example of the answer and one of every error, made by the code that answers."""

from __future__ import annotations

import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from lilliput.api.errors import Family, Fault, body_of, fault_of
from lilliput.errors import LilliputError

Responses = dict[int | str, dict[str, Any]]

_TAGS = [
    {"name": "OpenAI", "description": "chat, completions and embeddings for OpenAI's clients"},
    {"name": "Ollama", "description": "pulls and listings for Ollama's clients"},
    {"name": "Jobs", "description": "pulls and verifications in the background"},
    {"name": "Models", "description": "what is installed, and what would fit"},
    {"name": "Machine", "description": "what is in memory, and what this machine has"},
    {"name": "Health", "description": "for supervisors"},
]

INVALID = Fault(400, "invalid-request", "'temperature': Input should be less than or equal to 2", param="temperature")


def answers(
    example: object,
    family: Family,
    *errors: LilliputError | Fault,
    status: int = 200,
    stream: tuple[str, str] | None = None,
) -> Responses:
    """A route's ``responses``: ``example`` with ``status``, each of ``errors`` in ``family``'s shape.

    ``stream`` is a content type and an example of it, for routes that can stream. A ``str`` example is plain text.
    """
    kind = "text/plain" if isinstance(example, str) else "application/json"
    content: dict[str, Any] = {} if example is None else {kind: {"example": example}}
    if stream is not None:
        content[stream[0]] = {"schema": {"type": "string"}, "example": stream[1]}
    found: Responses = {status: {"description": HTTPStatus(status).phrase, "content": content}}
    for fault in _faults(errors):
        entry = found.setdefault(fault.status, {"description": "", "content": {"application/json": {"examples": {}}}})
        entry["description"] = "; ".join(filter(None, (entry["description"], fault.message)))
        examples = entry["content"]["application/json"]["examples"]
        examples[fault.code] = {"summary": fault.message, "value": json.loads(body_of(fault, family))}
    return found


def install(app: FastAPI) -> None:
    """Have ``app`` describe itself without the framework's own error answers, which no client ever sees here."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes, tags=_TAGS
            )
            for path in schema["paths"].values():
                for operation in path.values():
                    _trim(operation["responses"])
            for name in ("HTTPValidationError", "ValidationError"):
                schema["components"]["schemas"].pop(name, None)
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the framework's documented way


def _trim(responses: dict[str, Any]) -> None:
    """Drop what the framework adds by itself: its validation error, and JSON without an example beside other types."""
    responses.pop("422", None)
    for response in responses.values():
        content = response.get("content", {})
        if content.get("application/json") == {"schema": {}}:
            del content["application/json"]


def _faults(errors: Iterable[LilliputError | Fault]) -> Iterable[Fault]:
    return (error if isinstance(error, Fault) else fault_of(error) for error in errors)
