"""Errors that leave a route: each becomes a response in the shape of the route's family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from lilliput.api.context import request_id
from lilliput.api.errors import Fault, body_of, family_of, told
from lilliput.api.streams import json_response
from lilliput.errors import LilliputError

_HTTP_CODES = {404: "not-found", 405: "method-not-allowed", 413: "body-too-large"}
_PLACES = {"body", "query", "path", "header"}
_BRANCHES = frozenset({"constrained-int", "constrained-str", "float", "int", "str"})


def install(app: FastAPI) -> None:
    """Have ``app`` answer every error in the shape its clients read."""
    app.add_exception_handler(LilliputError, _foreseen)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


async def _foreseen(request: Request, error: Exception) -> Response:
    return _answer(request, told(error, request_id(request)))


async def _invalid(request: Request, error: Exception) -> Response:
    return _answer(request, validation_fault(cast("RequestValidationError", error).errors()))


async def _http(request: Request, error: Exception) -> Response:
    raised = cast("HTTPException", error)
    code = _HTTP_CODES.get(raised.status_code, "invalid-request" if raised.status_code < 500 else "internal-error")
    message = str(raised.detail)
    if raised.status_code in {404, 405}:
        phrase = HTTPStatus(raised.status_code).phrase.lower()
        message = f"{phrase}: {request.method} {request.url.path}"
    fault = Fault(raised.status_code, code, message, "see /docs for what there is" if code == "not-found" else None)
    return _answer(request, fault, raised.headers)


def _answer(request: Request, fault: Fault, headers: Mapping[str, str] | None = None) -> Response:
    body = body_of(fault, family_of(request.scope["path"]))
    return json_response(body, fault.status, {**fault.headers, **(headers or {})})


def validation_fault(problems: Sequence[Any]) -> Fault:
    """What is wrong with a request's values, the first three of them, with the first one's field as ``param``."""
    told_problems = [_problem(problem) for problem in problems[:3]]
    message = "; ".join(text for _, text in told_problems) or "the request is invalid"
    return Fault(400, "invalid-request", message, param=told_problems[0][0] if told_problems else None)


def _problem(problem: Mapping[str, Any]) -> tuple[str | None, str]:
    kind, where = problem["type"], list(problem["loc"])
    if kind == "json_invalid":
        detail = problem.get("ctx", {}).get("error", "syntax error")
        return None, f"the body is not valid JSON: {detail} at character {where[-1]}"
    if where and where[0] in _PLACES:
        where = where[1:]
    param = _path(where)
    if kind == "missing":
        return param, f"{param!r} is required" if param else "a JSON body is required"
    text = str(problem["msg"]).removeprefix("Value error, ")
    return param, f"{param!r}: {text}" if param else text


def _path(where: Sequence[object]) -> str | None:
    """The field as a client wrote it; pydantic also names the branch of a union, which no client has written."""
    path = ""
    for step in where:
        if isinstance(step, str) and (step in _BRANCHES or "[" in step):
            continue
        path += f"[{step}]" if isinstance(step, int) else f".{step}" if path else str(step)
    return path or None
