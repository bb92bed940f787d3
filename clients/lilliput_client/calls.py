"""Every call the daemon answers, as a value: path, body and how to read what comes back."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any
from urllib.parse import quote

from lilliput_client import completions, vectors
from lilliput_client.errors import ApiError, ProtocolError
from lilliput_client.findings import Report
from lilliput_client.machines import Host, Machine
from lilliput_client.plans import Accuracy, LoadWanted, Plan, PlanWanted, UseCase
from lilliput_client.tunings import Trial, Tuning
from lilliput_client.upkeep import Freshness, Garbage, Pruned
from lilliput_client.values import Answer, Delta, Embeddings, Engine, Job, JobError, Model, ModelDetails, Options
from lilliput_client.wire import IN_BAND, SILENCE_S, Call, Request, Stream, decoder, nothing

HUB_S = 300.0
"""What the daemon may take for an answer that needs the Hub: listings and headers, with its own waits and retries."""


def start_pull(model: str, variant: str | None, wanted: LoadWanted) -> Call[Job]:
    """Start, or join, the pull of ``model``."""
    body = {"model": model, **_given({"variant": variant, **wanted})}
    return Call(Request("POST", "/lilliput/pulls", body=body, wait_s=HUB_S), decoder(Job))


def jobs() -> Call[tuple[Job, ...]]:
    """All jobs the daemon remembers."""
    return Call(Request("GET", "/lilliput/jobs"), decoder(tuple[Job, ...], "jobs"))


def job(job_id: str) -> Call[Job]:
    """One job as it is now."""
    return Call(Request("GET", f"/lilliput/jobs/{_segment(job_id)}"), decoder(Job))


def job_events(job_id: str) -> Stream[Job]:
    """One job as it is and each time it changes; without a proper end of its own, since a job's state tells that."""
    request = Request("GET", f"/lilliput/jobs/{_segment(job_id)}/events", wait_s=SILENCE_S)
    return Stream(request, _snapshot)


def cancel_job(job_id: str) -> Call[Job]:
    """Cancel a job; one that has ended stays as it is."""
    return Call(Request("DELETE", f"/lilliput/jobs/{_segment(job_id)}"), decoder(Job))


def start_verify(names: Sequence[str], *, hub: bool) -> Call[Job]:
    """Start, or join, the verification of installed models, all without names."""
    body = {"models": list(names), "hub": hub}
    return Call(Request("POST", "/lilliput/verifications", body=body), decoder(Job))


def garbage(older_than_s: float | None) -> Call[Garbage]:
    """What nobody needs."""
    params = {} if older_than_s is None else {"older_than_s": str(older_than_s)}
    return Call(Request("GET", "/lilliput/garbage", params=params, wait_s=HUB_S), decoder(Garbage))


def prune(older_than_s: float | None, paths: Sequence[str] | None) -> Call[Pruned]:
    """Remove what nobody needs, of ``paths`` only where they are given."""
    body = _given({"older_than_s": older_than_s, "paths": None if paths is None else list(paths)})
    return Call(Request("POST", "/lilliput/prune", body=body, wait_s=None), decoder(Pruned))


def outdated(names: Sequence[str]) -> Call[tuple[Freshness, ...]]:
    """Installed models against the Hub, all of the Hub without names."""
    request = Request("GET", "/lilliput/outdated", params={"model": list(names)}, wait_s=HUB_S)
    return Call(request, decoder(tuple[Freshness, ...], "models"))


def models() -> Call[tuple[Model, ...]]:
    """All installed models."""
    return Call(Request("GET", "/lilliput/models"), decoder(tuple[Model, ...], "models"))


def show(name: str) -> Call[ModelDetails]:
    """One installed model."""
    return Call(Request("GET", f"/lilliput/models/{_segment(name)}"), decoder(ModelDetails))


def remove(name: str) -> Call[Model]:
    """Remove an installed model; the answer is what it was."""
    return Call(Request("DELETE", f"/lilliput/models/{_segment(name)}", wait_s=HUB_S), decoder(Model))


def plan(model: str, wanted: PlanWanted) -> Call[Plan]:
    """What of ``model`` would fit; a machine that is described by a table goes in a body."""
    asked = _given(wanted)
    if isinstance(asked.get("machine"), Mapping):
        return Call(Request("POST", "/lilliput/plan", body={"model": model, **asked}, wait_s=HUB_S), decoder(Plan))
    params = {"model": model} | {name: "true" if value is True else str(value) for name, value in asked.items()}
    return Call(Request("GET", "/lilliput/plan", params=params, wait_s=HUB_S), decoder(Plan))


def accuracy() -> Call[tuple[Accuracy, ...]]:
    """How far plans were off what models really took."""
    return Call(Request("GET", "/lilliput/plan/accuracy"), decoder(tuple[Accuracy, ...], "accuracy"))


def tune(model: str, seconds: float | None = None) -> Stream[Trial | Tuning]:
    """Measure which settings are fastest for a model: its trials, and at last what came of them."""
    body = {"model": model, "stream": True} | ({} if seconds is None else {"seconds": seconds})
    return Stream(Request("POST", "/lilliput/tune", body=body, wait_s=SILENCE_S), _measured)


def tuning(model: str) -> Call[Tuning]:
    """What was measured and chosen for a model."""
    return Call(Request("GET", _tuning_path(model)), decoder(Tuning))


def choose(model: str, changes: Mapping[str, bool | int | None]) -> Call[Tuning]:
    """Choose settings of a model's loads; None leaves one to the measurement."""
    return Call(Request("PATCH", _tuning_path(model), body=changes), decoder(Tuning))


def clear_choices(model: str) -> Call[Tuning]:
    """Leave all settings of a model's loads to what was measured."""
    return Call(Request("DELETE", _tuning_path(model)), decoder(Tuning))


def machines() -> Call[tuple[Machine, ...]]:
    """The machines that are described."""
    return Call(Request("GET", "/lilliput/machines"), decoder(tuple[Machine, ...], "machines"))


def use_cases() -> Call[tuple[UseCase, ...]]:
    """What a model may be wanted for."""
    return Call(Request("GET", "/lilliput/use_cases"), decoder(tuple[UseCase, ...], "use_cases"))


def engines() -> Call[tuple[Engine, ...]]:
    """The models in memory."""
    return Call(Request("GET", "/lilliput/engines"), decoder(tuple[Engine, ...], "engines"))


def load(model: str, wanted: LoadWanted, keep_alive: float | str | None = None) -> Call[Engine]:
    """Load a model; the answer comes when it is ready, however long that takes."""
    body = {"model": model, **_given(wanted)} | ({} if keep_alive is None else {"keep_alive": keep_alive})
    return Call(Request("POST", "/lilliput/engines", body=body, wait_s=None), decoder(Engine))


def unload(model: str, *, drain: bool = False) -> Call[None]:
    """Unload a model; draining takes as long as its answers do."""
    path = f"/lilliput/engines/{_segment(model)}"
    if drain:
        return Call(Request("DELETE", path, params={"drain": "true"}, wait_s=None), nothing)
    return Call(Request("DELETE", path, wait_s=HUB_S), nothing)


def pin(model: str, *, on: bool) -> Call[None]:
    """Pin a model, or no longer."""
    return Call(Request("PUT" if on else "DELETE", f"/lilliput/pins/{_segment(model)}"), nothing)


def hardware() -> Call[Host]:
    """What the daemon sees of its machine, and what models may use of it."""
    return Call(Request("GET", "/lilliput/hardware"), decoder(Host))


def doctor() -> Call[Report]:
    """What is wrong with the daemon's machine and installation."""
    return Call(Request("GET", "/lilliput/doctor"), decoder(Report))


def health() -> Call[str]:
    """The daemon's state: ``ready`` or ``starting``."""
    return Call(Request("GET", "/health/ready", wait_s=5.0), decoder(str, "status"), frozenset({503}))


def version() -> Call[str]:
    """The daemon's version."""
    return Call(Request("GET", "/api/version"), decoder(str, "version"))


def chat(model: str, messages: Sequence[Mapping[str, Any]], options: Options) -> Call[Answer]:
    """A chat, answered in one piece."""
    body = {"model": model, "messages": [dict(message) for message in messages], **_fields(options)}
    return Call(Request("POST", "/v1/chat/completions", body=body, wait_s=None), completions.answer)


def chat_stream(model: str, messages: Sequence[Mapping[str, Any]], options: Options) -> Stream[Delta]:
    """A chat, answered as it is made."""
    return _streamed(chat(model, messages, options).request)


def complete(model: str, prompt: str, options: Options) -> Call[Answer]:
    """The continuation of a text, in one piece."""
    body = {"model": model, "prompt": prompt, **_fields(options)}
    return Call(Request("POST", "/v1/completions", body=body, wait_s=None), completions.answer)


def complete_stream(model: str, prompt: str, options: Options) -> Stream[Delta]:
    """The continuation of a text, as it is made."""
    return _streamed(complete(model, prompt, options).request)


def embed(model: str, inputs: str | Sequence[str], dimensions: int | None = None) -> Call[Embeddings]:
    """Vectors for texts."""
    given = inputs if isinstance(inputs, str) else list(inputs)
    cut = {} if dimensions is None else {"dimensions": dimensions}
    body = {"model": model, "input": given, "encoding_format": "base64", **cut}
    return Call(Request("POST", "/v1/embeddings", body=body, wait_s=None), vectors.embeddings)


_job = decoder(Job)
_job_error = decoder(JobError, "error")


def _snapshot(data: str) -> tuple[Job]:
    """A job's snapshot; raises ApiError for an event that tells an error of the stream, which has no job around it."""
    content = data.encode()
    try:
        return (_job(content),)
    except ProtocolError:
        error = _job_error(content)
        raise ApiError(IN_BAND, error.code, error.message, error.hint) from None


_trial = decoder(Trial, "trial")
_tuning = decoder(Tuning, "tuning")


def _measured(data: str) -> tuple[Trial | Tuning] | None:
    """A trial, or what came of all, whose end is announced; raises ApiError for an error that ends the stream."""
    if data == "[DONE]":
        return None
    content = data.encode()
    for parse in (_trial, _tuning):
        with contextlib.suppress(ProtocolError):
            return (parse(content),)
    error = _job_error(content)
    raise ApiError(IN_BAND, error.code, error.message, error.hint)


def _tuning_path(model: str) -> str:
    return f"/lilliput/tunings/{_segment(model)}"


def _given(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """What of it was really asked for."""
    return {name: value for name, value in wanted.items() if value is not None and value is not False}


def _segment(text: str) -> str:
    return quote(text, safe="")  # slashes too: "./file" must not be taken for a relative path


def _streamed(request: Request) -> Stream[Delta]:
    body = {**(request.body or {}), "stream": True, "stream_options": {"include_usage": True}}
    return Stream(Request(request.method, request.path, body=body, wait_s=None), completions.delta)


def _fields(options: Options) -> dict[str, Any]:
    named = {item.name: getattr(options, item.name) for item in fields(options) if item.name != "extra"}
    return {**{name: value for name, value in named.items() if value is not None}, **options.extra}
