"""``lilliput pull``."""

from __future__ import annotations

from typing import Annotated

import typer

from lilliput_client import LoadWanted
from lilliput_client.cli import next_steps
from lilliput_client.cli.connection import connect, model_name
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
    Variant,
    YarnOrigCtx,
    examples,
    new_app,
)
from lilliput_client.cli.output import print_json
from lilliput_client.cli.progress import follow

app = new_app()


@app.command(
    epilog=examples(
        ("lilliput pull llama3.1:8b", "the best variant that fits"),
        ("lilliput pull org/repo:Q5_K_M", "this variant"),
        ("lilliput pull llama3.1:8b --use-case coding", "good and roomy enough for that"),
        ("lilliput pull qwen2.5:7b --detach", "print the job's id and leave"),
        note="What is asked for here holds for every load. "
        "Ctrl-C cancels the download; the same command goes on where it stopped.",
    )
)
def pull(  # noqa: PLR0913, PLR0917 - a command's options are its arguments
    ctx: typer.Context,
    model: ModelName,
    variant: Variant = None,
    context: Context = None,
    use_case: UseCaseName = None,
    slots: Slots = None,
    kv: KvType = None,
    gpu_layers: GpuLayers = None,
    rope_scaling: RopeScaling = None,
    rope_freq_base: RopeFreqBase = None,
    rope_freq_scale: RopeFreqScale = None,
    yarn_orig_ctx: YarnOrigCtx = None,
    draft: DraftModel = None,
    force: Force = False,
    detach: Annotated[bool, typer.Option("--detach", help="Print the job's id and do not wait for it.")] = False,
    json: Json = False,
) -> None:
    """Install a model, the variant that fits best."""
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
    with connect(ctx) as client:
        job = client.start_pull(model_name(model), variant=variant, **wanted)
        if not detach:
            job = follow(client, job, again=next_steps.pull(model, wanted, variant))
    if json:
        print_json(job)
    elif detach:
        typer.echo(job.id)
