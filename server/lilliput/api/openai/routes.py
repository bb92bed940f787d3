"""The routes of OpenAI's dialect."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.responses import Response

from lilliput.api.asking import asking
from lilliput.api.attention import attended
from lilliput.api.context import Context, Given, request_id
from lilliput.api.errors import encode
from lilliput.api.openai import examples
from lilliput.api.openai.chat_body import ChatBody
from lilliput.api.openai.chat_writer import ChatWriter, whole_chat
from lilliput.api.openai.completion_body import CompletionBody
from lilliput.api.openai.completion_writer import CompletionWriter, whole_completion
from lilliput.api.openai.wire import Head
from lilliput.api.streams import SSE, StreamResponse, Surroundings, Writer, json_response
from lilliput.catalogue import InstalledModel, PathName, parse_name
from lilliput.errors import BadFile, InvalidRequest
from lilliput.services.requests import Generation, GenerationEvent

router = APIRouter(prefix="/v1", tags=["OpenAI"])

T = TypeVar("T")

_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")
"""What a header may hold; the rest is percent-encoded."""


@router.post(
    "/chat/completions",
    summary="Chat",
    description="Answer a chat with an installed model, whole or as server-sent events. Beside OpenAI's fields: "
    "all samplers of llama.cpp, `grammar`, `json_schema`, `min_tokens`, `ignore_eos`, `priority`, `deadline_s`, "
    "`speculation`, `context_overflow`, `n_keep`, `chat_template_kwargs`.",
    responses=examples.CHAT,
    response_model=None,
)
async def chat(body: ChatBody, given: Given, request: Request) -> Response:
    """POST /v1/chat/completions."""
    wanted = asking(request, given).of(body.request())
    accept = of_named_file(body.model, lambda: given.services.generator.chat(wanted))
    if body.stream:
        return await _stream(
            accept, given, request, lambda model: ChatWriter(_head("chatcmpl", model), wanted.n, body.wants_usage)
        )
    return await _whole(
        accept,
        given,
        request,
        lambda answer: whole_chat(answer, _head("chatcmpl", answer.model), wanted.n, bool(body.logprobs)),
    )


@router.post(
    "/completions",
    summary="Complete text",
    description="Continue raw prompts (text or token ids) without a chat template, whole or as server-sent events.",
    responses=examples.COMPLETION,
    response_model=None,
)
async def complete(body: CompletionBody, given: Given, request: Request) -> Response:
    """POST /v1/completions."""
    wanted = asking(request, given).of(body.request())
    accept = of_named_file(body.model, lambda: given.services.generator.complete(wanted))
    echoes = body.echoes()
    if body.stream:
        return await _stream(
            accept, given, request, lambda model: CompletionWriter(_head("cmpl", model), echoes, body.wants_usage)
        )
    return await _whole(
        accept,
        given,
        request,
        lambda answer: whole_completion(answer, _head("cmpl", answer.model), echoes, body.logprobs is not None),
    )


@router.head("/models", include_in_schema=False, response_model=None)
@router.get(
    "/models",
    summary="List models",
    description="All installed models, by the names that requests may use.",
    responses=examples.MODELS,
    response_model=None,
)
async def models(given: Given) -> Response:
    """GET /v1/models."""
    return json_response(encode(_page(list(await given.services.models.list()))))


@router.head("/models/{model_id:path}", include_in_schema=False, response_model=None)
@router.get(
    "/models/{model_id:path}",
    summary="Show a model",
    description="One installed model by name; slashes in the name may be percent-encoded.",
    responses=examples.MODEL,
    response_model=None,
)
async def model(model_id: str, given: Given) -> Response:
    """GET /v1/models/{id}."""
    if not model_id:
        return await models(given)
    found = await of_named_file(model_id, lambda: given.services.models.resolve(model_id))
    return json_response(encode(_entry(found)))


async def of_named_file(model: str, work: Callable[[], Awaitable[T]]) -> T:
    """The outcome of ``work``; a bad file is the client's mistake, not the server's, when ``model`` is its path."""
    try:
        return await work()
    except BadFile as error:
        if not isinstance(parse_name(model), PathName):
            raise
        refusal = InvalidRequest(error.message, hint=error.hint, param="model")
        refusal.code = error.code
        raise refusal from error


async def _stream(
    accept: Coroutine[Any, Any, Generation],
    given: Context,
    request: Request,
    writer_for: Callable[[str], Writer[GenerationEvent]],
) -> Response:
    answer = await attended(accept, request.receive, given.drained)
    around = Surroundings(given.drained, given.heartbeat_s, request_id(request))
    return StreamResponse(answer, answer.aclose, writer_for(answer.model), SSE, around, headers_of(answer))


async def _whole(
    accept: Coroutine[Any, Any, Generation],
    given: Context,
    request: Request,
    collect: Callable[[Generation], Awaitable[bytes]],
) -> Response:
    async def work() -> tuple[bytes, dict[str, str]]:
        answer = await accept
        try:
            return await collect(answer), headers_of(answer)
        finally:
            await answer.aclose()

    body, headers = await attended(work(), request.receive, given.drained)
    return json_response(body, headers=headers)


class Answer(Protocol):
    """What tells who answers."""

    @property
    def model(self) -> str:
        """The canonical name of the installed model."""
        ...

    @property
    def quantization(self) -> str | None:
        """The quantization of its weights."""
        ...


def variant_header(answer: Answer) -> dict[str, str]:
    """Which installed variant answers: its canonical name and quantization, percent-encoded beyond ASCII."""
    quantization = f";quantization={answer.quantization}" if answer.quantization else ""
    return {"x-lilliput-variant": quote(answer.model, safe="/:._-@ ") + quantization}


def headers_of(answer: Generation) -> dict[str, str]:
    """As ``variant_header``, what the engine had to give up and the place in its queue, if anything."""
    place = {"x-lilliput-queue-position": str(answer.queue_position)} if answer.queue_position else {}
    degraded = {"x-lilliput-degraded": quote("; ".join(answer.degraded), safe=_PRINTABLE)} if answer.degraded else {}
    return variant_header(answer) | degraded | place


def _head(prefix: str, model_name: str) -> Head:
    return Head.new(prefix, time.time(), model_name)


def _page(installed: list[InstalledModel]) -> dict[str, Any]:
    entries = [_entry(one) for one in installed]
    ends = (
        {"first_id": entries[0]["id"], "last_id": entries[-1]["id"]} if entries else {"first_id": None, "last_id": None}
    )
    return {"object": "list", "data": entries, "has_more": False, **ends}


def _entry(one: InstalledModel) -> dict[str, Any]:
    created = datetime.fromtimestamp(one.installed_at, UTC).replace(microsecond=0)
    return {
        "id": one.name,
        "object": "model",
        "type": "model",
        "created": int(one.installed_at),
        "created_at": created.isoformat().replace("+00:00", "Z"),
        "owned_by": one.repo.partition("/")[0] if one.repo else "local",
        "display_name": one.name,
        "lifecycle": "active",
    }
