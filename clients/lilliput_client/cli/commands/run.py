"""``lilliput run``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from lilliput_client import Client, LoadWanted, NotFound, Options, PlanWanted
from lilliput_client.cli import next_steps
from lilliput_client.cli.answering import Told, answer, statistics
from lilliput_client.cli.connection import is_file, model_name
from lilliput_client.cli.conversation import Conversation
from lilliput_client.cli.failures import INTERRUPTED
from lilliput_client.cli.options import (
    Context,
    DraftModel,
    Force,
    GpuLayers,
    Json,
    KvType,
    ModelName,
    RopeFreqBase,
    RopeFreqScale,
    RopeScaling,
    Slots,
    UseCaseName,
    YarnOrigCtx,
    examples,
    new_app,
)
from lilliput_client.cli.output import print_json, talk
from lilliput_client.cli.own_daemon import reach
from lilliput_client.cli.plan_view import does_not_fit, print_plan
from lilliput_client.cli.progress import follow

app = new_app()


@app.command(
    epilog=examples(
        ('lilliput run smollm2 "Why is the sky blue?"', "one answer"),
        ('git diff | lilliput run llama3.1:8b "Review this:"', "the question and what is piped in"),
        ("lilliput run smollm2", "talk; /bye leaves"),
        ("lilliput run llama3.1:8b --use-case coding --slots 1", "loaded so, now and later"),
        note="A model that is not installed is installed first, so that it suits --use-case. "
        "How it is to be loaded holds for later loads, too. Without a daemon, one is started for the call.",
    )
)
def run(  # noqa: PLR0913, PLR0917 - a command's options are its arguments
    ctx: typer.Context,
    model: ModelName,
    prompt: Annotated[list[str] | None, typer.Argument(metavar="[PROMPT]...", help="The question.")] = None,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="Instructions for the model.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0.0, help="0 always takes the likeliest token.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, metavar="N", help="The longest answer.")] = None,
    use_case: UseCaseName = None,
    context: Context = None,
    slots: Slots = None,
    kv: KvType = None,
    gpu_layers: GpuLayers = None,
    rope_scaling: RopeScaling = None,
    rope_freq_base: RopeFreqBase = None,
    rope_freq_scale: RopeFreqScale = None,
    yarn_orig_ctx: YarnOrigCtx = None,
    draft: DraftModel = None,
    force: Force = False,
    seed: Annotated[int | None, typer.Option(help="Makes sampling repeatable.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Tell token counts and speed.")] = False,
    json: Json = False,
) -> None:
    """Ask a model one question, or talk with it."""
    question = read_question(prompt or [])
    if json and question is None:
        raise typer.BadParameter("--json needs a prompt")
    options = Options(temperature=temperature, max_tokens=max_tokens, seed=seed)
    wanted = LoadWanted(
        context=context,
        use_case=use_case,
        slots=slots,
        kv=kv,
        gpu_layers=gpu_layers,
        rope_scaling=rope_scaling,
        rope_freq_base=rope_freq_base,
        rope_freq_scale=rope_freq_scale,
        yarn_orig_ctx=yarn_orig_ctx,
        draft=model_name(draft) if draft else None,
        force=force,
    )
    name = model_name(model)
    with reach(ctx) as client:
        name = ensure_installed(client, name, wanted)
        if question is None:
            Conversation(client, name, options, system=system, verbose=verbose).run()
            return
        messages = [{"role": "system", "content": system}] if system else []
        told = answer(client, name, [*messages, {"role": "user", "content": question}], options, silent=json)
    finish(told, verbose=verbose, as_json=json)


def read_question(words: list[str]) -> str | None:
    """The prompt's words, then what is piped in; None if there is neither and a person to talk with."""
    piped = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    parts = [part for part in (" ".join(words), piped.strip("\n")) if part.strip()]
    if not parts and sys.stdin is not None and sys.stdin.isatty():
        return None
    if not parts:
        raise typer.BadParameter("the prompt is empty")
    return "\n\n".join(parts)


def ensure_installed(client: Client, model: str, wanted: LoadWanted) -> str:
    """The daemon's own name for the model, which is installed first if need be: what would be taken is shown before.

    What is wanted of a model that is installed is what it is loaded with now.
    """
    try:
        name = client.show(model).name
    except NotFound as error:
        if error.code.startswith("http-"):  # a stranger's 404 says nothing about models
            raise
        return _install(client, model, wanted)
    if next_steps.flags(wanted):
        client.load(model, **wanted)  # by the name that was typed: whether it names a variant matters for the floor
    return name


def _install(client: Client, model: str, wanted: LoadWanted) -> str:
    talk(f"{model} is not installed")
    if not is_file(model):
        asked = PlanWanted(
            context=wanted["context"],
            use_case=wanted["use_case"],
            slots=wanted["slots"],
            kv=wanted["kv"],
            gpu_layers=wanted["gpu_layers"],
            rope_scaling=wanted["rope_scaling"],
            rope_freq_base=wanted["rope_freq_base"],
            rope_freq_scale=wanted["rope_freq_scale"],
            yarn_orig_ctx=wanted["yarn_orig_ctx"],
        )
        plan = client.plan(model, **asked)
        print_plan(plan, Console(stderr=True, markup=False, highlight=False))
        if plan.chosen is None and not wanted["force"]:
            raise does_not_fit(plan, wanted)
    job = follow(client, client.start_pull(model, **wanted), again=next_steps.pull(model, wanted))
    return str((job.result or {}).get("name") or model)


def finish(told: Told, *, verbose: bool, as_json: bool) -> None:
    """What follows an answer: numbers, the JSON document, the exit code of an interruption."""
    if verbose:
        talk(statistics(told))
    if as_json:
        times = {"first_token_s": told.first_token_s, "total_s": told.total_s, "tokens_per_s": told.tokens_per_s}
        document = {"model": told.model, "text": told.text, "finish_reason": told.finish_reason, "usage": told.usage}
        print_json({**document, "times": times})
    if told.stopped:
        raise typer.Exit(INTERRUPTED)
