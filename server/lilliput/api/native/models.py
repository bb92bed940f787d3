"""Installed models."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from lilliput.api.context import Given
from lilliput.api.documents import answers
from lilliput.api.errors import encode
from lilliput.api.streams import json_response
from lilliput.catalogue import InstalledModel
from lilliput.errors import ModelNotFound

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
_MISSING = ModelNotFound("model 'llama9' is not installed", hint="lilliput list shows what is")


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
