"""What of a model would fit, on this machine or a described one, and how right earlier plans were."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import ConfigDict, Field
from starlette.responses import Response

from lilliput.api.bodies import MOST_INTEGER, Natural, Positive
from lilliput.api.context import Context, Given
from lilliput.api.documents import answers
from lilliput.api.errors import Fault, encode
from lilliput.api.native.terms import ROPE_FREQ_BASE, ROPE_FREQ_SCALE, ROPE_SCALING, YARN_ORIG_CTX, RopeBody, rope_of
from lilliput.api.streams import json_response
from lilliput.errors import BadName, HubUnreachable, InvalidRequest, ModelNotFound
from lilliput.llama import RopeScaling
from lilliput.services import PlanRequest
from lilliput.units import parse_bytes

router = APIRouter(prefix="/lilliput", tags=["Plans"])

_PLAN: dict[str, Any] = {
    "version": 1,
    "model": "smollm2:135m",
    "use_case": "general",
    "machine": {"system": "Linux", "memory": {"total_bytes": 25_769_803_776, "available_bytes": 21_474_836_480}},
    "budget": {
        "ram": {
            "total_bytes": 25_769_803_776,
            "available_bytes": 21_474_836_480,
            "reserve_bytes": 536_870_912,
            "promised_bytes": 0,
            "held_bytes": 0,
            "use_fraction": 0.8,
            "limit_bytes": None,
            "budget_bytes": 20_615_843_020,
            "because": "80% of 24.0 GiB",
        }
    },
    "context_tokens": 8192,
    "slots": 8,
    "objective": "8 slots; 8192 tokens of context; then the best quality at 10 tokens/s or more; then speed",
    "summary": "Q4_1: the best quality that fits",
    "variants": [
        {
            "name": "Q4_1",
            "files": ["/models/smollm2-135m.gguf"],
            "file_bytes": 98_016_160,
            "exists": True,
            "need": {
                "ram": {
                    "weights": 96_574_464,
                    "kv": 188_743_680,
                    "compute": 104_857_600,
                    "overhead": 72_088_384,
                    "weights_mapped": 96_574_464,
                    "weights_copied": 0,
                    "weights_idle": 0,
                }
            },
            "total_bytes": 462_264_128,
            "setting": {
                "context_tokens": 8192,
                "slots": 8,
                "kv_type": "f16",
                "gpu_layers": 0,
                "cpu_expert_layers": 0,
            },
            "offload": "none",
            "estimated": False,
            "margin_bytes": None,
            "tokens_per_s": {"low": 84.0, "mid": 95.0, "high": 107.0},
            "prompt_tokens_per_s": {"low": 310.0, "mid": 360.0, "high": 420.0},
            "quality": {
                "kld": 0.0717,
                "dppl_percent": 7.2,
                "top1_agreement": None,
                "bits_per_weight": 5.0,
                "source": "llama.cpp's scoreboard, Llama 3 8B",
                "measured": False,
            },
            "fits": True,
            "reason": "asked for, and it fits",
            "near_misses": [],
            "pss_bytes": 462_264_128,
        }
    ],
    "chosen": "Q4_1",
    "notes": ["weights in main memory are memory-mapped"],
    "rope": None,
}
_PLAN_ERRORS = (
    Fault(400, "invalid-request", "'model' is required", param="model"),
    BadName("'a b' is no model name", hint="names look like llama3.1:8b or org/repo:Q4_K_M"),
    ModelNotFound("there is no model 'llama9'", hint="did you mean llama3?"),
    HubUnreachable("https://huggingface.co cannot be reached", hint="check the network, then try again"),
)
_ACCURACY: dict[str, Any] = {
    "architecture": "llama",
    "backend": "CPU",
    "offload": "none",
    "build": "1a55c5d89ac1",
    "loads": 3,
    "planned": {"weights": 96_574_464, "kv": 188_743_680, "compute": 104_857_600, "overhead": 72_088_384},
    "measured": {"weights": 96_574_464, "kv": 188_743_680, "compute": 104_857_600, "overhead": 61_088_384},
    "error_percent": -2.38,
    "worst_percent": -2.5,
    "correction_bytes": -11_000_000,
    "updated_at": 1767225660.5,
    "errors_bytes": {"ram": {"kv": {"median": 0, "worst": 0}}},
}
_MACHINE: dict[str, Any] = {
    "name": "macbook-m2-16gb",
    "title": "MacBook with M2, 16 GB",
    "total_bytes": 17_179_869_184,
    "available_bytes": 12_884_901_888,
    "bandwidth_bytes_s": 100e9,
    "unified": True,
}
_USE_CASE: dict[str, Any] = {"name": "coding", "floor": "Q4_K_M", "start": "Q5_K_M", "target_tokens_per_s": 10.0}

Positive64 = Annotated[int, Field(strict=True, ge=1, lt=2**63)]

_CONTEXT = 'tokens of context that all sequences share, or "max" for what the model was trained with'
_MMPROJ = "a projector to be loaded beside: a file of the repository, or an absolute path"
_LORA = "an adapter to be loaded beside: a file of the repository, or an absolute path"


class PlanBody(RopeBody):
    """POST /lilliput/plan."""

    model: str = Field(min_length=1, description="installed, a family, a repository, a file or a bare header")
    context: Positive | Literal["max"] | None = Field(None, description=_CONTEXT)
    use_case: str | None = Field(None, description="what it is wanted for")
    slots: Positive | None = Field(None, description="sequences at the same time")
    kv: str | None = Field(None, description="type of the KV cache")
    machine: str | dict[str, Any] | None = Field(None, description="a described machine: its name, or a table of it")
    budget: Positive64 | str | None = Field(None, description='a limit of main memory: bytes, or "24GiB"')
    all: bool | None = Field(None, description="also the variants that a quantization would make")
    gpu_layers: Natural | None = Field(None, description="layers on accelerators")
    mmproj: str | None = Field(None, min_length=1, description=_MMPROJ)
    lora: str | None = Field(None, min_length=1, description=_LORA)

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"model": "llama3.1:70b", "machine": "pc-32gb"}}
    )


@router.get(
    "/plan",
    summary="Plan a model",
    description="What each variant of a model would need, run at and lose, which one would be taken, and why.",
    responses=answers(_PLAN, "native", *_PLAN_ERRORS),
    response_model=None,
)
async def plan(  # noqa: PLR0913, PLR0917 - one parameter a part of the query
    given: Given,
    query: Request,
    model: Annotated[str, Query(min_length=1, description="installed or not", examples=["llama3.1:8b"])],
    context: Annotated[str | None, Query(description=_CONTEXT, examples=["8192"])] = None,
    use_case: Annotated[str | None, Query(description="what it is wanted for", examples=["coding"])] = None,
    slots: Annotated[int | None, Query(ge=1, le=MOST_INTEGER, description="sequences at the same time")] = None,
    kv: Annotated[str | None, Query(description="type of the KV cache", examples=["q8_0"])] = None,
    machine: Annotated[str | None, Query(description="a described machine", examples=["macbook-m2-16gb"])] = None,
    budget: Annotated[str | None, Query(description="a limit of main memory", examples=["24GiB"])] = None,
    every_type: Annotated[
        bool, Query(alias="all", description="also the variants that a quantization would make")
    ] = False,
    gpu_layers: Annotated[int | None, Query(ge=0, le=MOST_INTEGER, description="layers on accelerators")] = None,
    mmproj: Annotated[str | None, Query(min_length=1, description=_MMPROJ, examples=["mmproj-F16.gguf"])] = None,
    lora: Annotated[str | None, Query(min_length=1, description=_LORA, examples=["/models/adapter.gguf"])] = None,
    rope_scaling: Annotated[RopeScaling | None, Query(description=ROPE_SCALING, examples=["yarn"])] = None,
    rope_freq_base: Annotated[float | None, Query(gt=0, description=ROPE_FREQ_BASE, examples=[1e6])] = None,
    rope_freq_scale: Annotated[float | None, Query(gt=0, le=1, description=ROPE_FREQ_SCALE, examples=[0.25])] = None,
    yarn_orig_ctx: Annotated[int | None, Query(ge=1, le=MOST_INTEGER, description=YARN_ORIG_CTX)] = None,
) -> Response:
    """GET /lilliput/plan."""
    _refuse_unknown(query)
    request = PlanRequest(
        model=model,
        context_tokens=_context(context),
        use_case=use_case,
        slots=slots,
        kv_type=kv,
        gpu_layers=gpu_layers,
        rope=rope_of(rope_scaling, rope_freq_base, rope_freq_scale, yarn_orig_ctx),
        machine=machine,
        budget_bytes=_budget(budget),
        every_type=every_type,
        mmproj=mmproj,
        lora=lora,
    )
    return await _answer(request, given)


@router.post(
    "/plan",
    summary="Plan a model for a described machine",
    description="As GET, with a body: there a machine may be described by a table, as in machines.toml.",
    responses=answers(_PLAN, "native", *_PLAN_ERRORS),
    response_model=None,
)
async def plan_from_body(body: PlanBody, given: Given) -> Response:
    """POST /lilliput/plan."""
    request = PlanRequest(
        model=body.model,
        context_tokens=body.context,
        use_case=body.use_case,
        slots=body.slots,
        kv_type=body.kv,
        gpu_layers=body.gpu_layers,
        rope=body.rope,
        machine=body.machine,
        budget_bytes=_budget(body.budget),
        every_type=bool(body.all),
        mmproj=body.mmproj,
        lora=body.lora,
    )
    return await _answer(request, given)


@router.get(
    "/plan/accuracy",
    summary="Show how right plans were",
    description="Predicted against real memory of the models that were used, by architecture, backend, offload, build.",
    responses=answers({"accuracy": [_ACCURACY]}, "native"),
    response_model=None,
)
async def accuracy(given: Given) -> Response:
    """GET /lilliput/plan/accuracy."""
    return json_response(encode({"accuracy": list(given.services.accuracy())}))


@router.get(
    "/machines",
    summary="List described machines",
    description="The machines that a plan can be asked about by name.",
    responses=answers({"machines": [_MACHINE]}, "native"),
    response_model=None,
)
async def machines(given: Given) -> Response:
    """GET /lilliput/machines."""
    return json_response(encode({"machines": list(given.services.machines)}))


@router.get(
    "/use_cases",
    summary="List use cases",
    description="What a model may be wanted for: the least quality that will do, and where to start.",
    responses=answers({"use_cases": [_USE_CASE]}, "native"),
    response_model=None,
)
async def use_cases(given: Given) -> Response:
    """GET /lilliput/use_cases."""
    return json_response(encode({"use_cases": list(given.services.use_cases)}))


async def _answer(request: PlanRequest, given: Context) -> Response:
    return json_response(encode(await given.services.plans.plan(request)))


def _refuse_unknown(request: Request) -> None:
    """A misspelt wish must not be passed over."""
    for name in request.query_params:
        if name not in PlanBody.model_fields:
            near = get_close_matches(name, PlanBody.model_fields, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(PlanBody.model_fields)}"
            raise InvalidRequest(f"a plan has no parameter {name!r}", hint=hint, param=name)


def _context(text: str | None) -> int | Literal["max"] | None:
    if text is None:
        return None
    if text.strip().lower() == "max":
        return "max"
    if text.strip().isdecimal() and 1 <= int(text) <= MOST_INTEGER:
        return int(text)
    raise InvalidRequest(f"{text!r} is no context", hint='a number of tokens from 1, or "max"', param="context")


def _budget(value: int | str | None) -> int | None:
    if value is None or isinstance(value, int):
        return value
    try:
        return parse_bytes(value)
    except ValueError as error:
        raise InvalidRequest(str(error), param="budget") from None
