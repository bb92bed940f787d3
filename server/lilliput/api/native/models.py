"""Installed models, and what of a model would fit."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from lilliput.api.bodies import MOST_INTEGER
from lilliput.api.context import Given
from lilliput.api.documents import answers
from lilliput.api.errors import Fault, encode
from lilliput.api.streams import json_response
from lilliput.catalogue import InstalledModel
from lilliput.errors import BadName, HubUnreachable, ModelNotFound

router = APIRouter(prefix="/lilliput", tags=["Models"])

_SHA256 = "4e8a1f1b0c7d2a3e5f60718293a4b5c6d7e8f9000112233445566778899aabbc"
_MODEL: dict[str, Any] = {
    "name": "smollm2:135m",
    "source": "embedded",
    "repo": None,
    "revision": None,
    "quantization": "Q4_1",
    "architecture": "llama",
    "context_length": 8192,
    "parameter_count": 134_515_008,
    "license": "apache-2.0",
    "size_bytes": 98_016_160,
    "digest": _SHA256,
    "installed_at": 1767225600.0,
    "files": [{"path": "/models/smollm2-135m.gguf", "size_bytes": 98_016_160, "sha256": _SHA256}],
}
_PLAN: dict[str, Any] = {
    "model": "smollm2:135m",
    "machine": {"system": "Linux", "memory": {"total_bytes": 25_769_803_776, "available_bytes": 21_474_836_480}},
    "budget": {
        "total_bytes": 25_769_803_776,
        "available_bytes": 21_474_836_480,
        "reserve_bytes": 536_870_912,
        "use_fraction": 0.8,
        "limit_bytes": None,
        "budget_bytes": 20_615_843_020,
        "because": "80% of 24.0 GiB",
    },
    "context_tokens": 8192,
    "slots": 8,
    "variants": [
        {
            "name": "Q4_1",
            "files": ["/models/smollm2-135m.gguf"],
            "file_bytes": 98_016_160,
            "need": {"ram": {"weights": 98_016_160, "kv": 188_743_680, "compute": 104_857_600, "overhead": 88_080_384}},
            "total_bytes": 479_697_824,
            "fits": True,
            "reason": "the only variant, and it fits",
        }
    ],
    "chosen": "Q4_1",
}
_MISSING = ModelNotFound("model 'llama9' is not installed", hint="lilliput list shows what is")
_PLAN_ERRORS = (
    Fault(400, "invalid-request", "'model' is required", param="model"),
    BadName("'a b' is no model name", hint="names look like llama3.1:8b or org/repo:Q4_K_M"),
    ModelNotFound("there is no model 'llama9'", hint="did you mean llama3?"),
    HubUnreachable("https://huggingface.co cannot be reached", hint="check the network, then try again"),
)


@router.get(
    "/models",
    summary="List models",
    description="All installed models with their files.",
    responses=answers({"models": [_MODEL]}, "native"),
    response_model=None,
)
async def list_models(given: Given) -> Response:
    """GET /lilliput/models."""
    installed = await given.services.models.list()
    return json_response(encode({"models": [model_json(model) for model in installed]}))


@router.get(
    "/models/{name:path}",
    summary="Show a model",
    description="One installed model, with the plain values of its file's header.",
    responses=answers({**_MODEL, "metadata": {"general.architecture": "llama"}}, "native", _MISSING),
    response_model=None,
)
async def show_model(name: str, given: Given) -> Response:
    """GET /lilliput/models/{name}."""
    details = await given.services.models.show(name)
    return json_response(encode({**model_json(details.model), "metadata": dict(details.metadata)}))


@router.delete(
    "/models/{name:path}",
    summary="Remove a model",
    description="Unregister a model, and delete its files where nothing else needs them. The answer is what it was.",
    responses=answers(_MODEL, "native", _MISSING),
    response_model=None,
)
async def remove_model(name: str, given: Given) -> Response:
    """DELETE /lilliput/models/{name}."""
    return json_response(encode(model_json(await given.services.models.remove(name))))


@router.get(
    "/plan",
    summary="Plan a model",
    description="What each variant of a model would need on this machine now, which one would be taken, and why.",
    responses=answers(_PLAN, "native", *_PLAN_ERRORS),
    response_model=None,
)
async def plan(
    given: Given,
    model: Annotated[str, Query(min_length=1, description="installed or not", examples=["llama3.1:8b"])],
    context: Annotated[
        int | None, Query(ge=1, le=MOST_INTEGER, description="tokens of context that all sequences share")
    ] = None,
    slots: Annotated[int | None, Query(ge=1, le=MOST_INTEGER, description="sequences at the same time")] = None,
) -> Response:
    """GET /lilliput/plan."""
    return json_response(encode(await given.services.plans.plan(model, context_tokens=context, slots=slots)))


def model_json(model: InstalledModel) -> dict[str, Any]:
    """An installed model as this dialect tells it; ``digest`` is that of a single file, else null."""
    return {
        "name": model.name,
        "source": model.source,
        "repo": model.repo,
        "revision": model.revision,
        "quantization": model.quantization,
        "architecture": model.architecture,
        "context_length": model.context_length,
        "parameter_count": model.parameter_count,
        "license": model.license,
        "size_bytes": model.size_bytes,
        "digest": model.files[0].sha256 if len(model.files) == 1 else None,
        "installed_at": model.installed_at,
        "files": [
            {"path": str(file.path), "size_bytes": file.size_bytes, "sha256": file.sha256} for file in model.files
        ],
    }
