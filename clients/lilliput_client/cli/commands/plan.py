"""``lilliput plan``."""

from __future__ import annotations

from typing import Annotated

import typer

from lilliput_client.cli.options import (
    ContextOrMax,
    GpuLayers,
    Json,
    KvType,
    Machine,
    OptionalModelName,
    RopeFreqBase,
    RopeFreqScale,
    RopeScaling,
    Slots,
    UseCaseName,
    YarnOrigCtx,
    examples,
    missing,
    new_app,
)

app = new_app()


@app.command(
    epilog=examples(
        ("lilliput plan llama3.1:70b", "what would fit here, and why"),
        ("lilliput plan qwen3:8b --ctx max --kv q8_0", "with all the context there can be"),
        ("lilliput plan org/repo --use-case coding --slots 2", "for two at a time"),
        ("lilliput plan llama3.1:70b --machine macbook-m2-16gb", "on another machine"),
        ("lilliput plan llama3.1:70b --machine ./mine.toml", "on one that you describe"),
        ("lilliput plan smollm2 --json", "for programs"),
        note="Exit codes: 0 something fits, 3 nothing does.",
    )
)
def plan(  # noqa: PLR0913, PLR0917 - a command's options are its arguments
    ctx: typer.Context,
    model: OptionalModelName = None,
    context: ContextOrMax = None,
    use_case: UseCaseName = None,
    slots: Slots = None,
    kv: KvType = None,
    machine: Machine = None,
    budget: Annotated[
        str | None, typer.Option(metavar="BYTES", help="Limit of main memory, in bytes or as 24GiB.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Also the variants that would have to be made.")] = False,
    gpu_layers: GpuLayers = None,
    rope_scaling: RopeScaling = None,
    rope_freq_base: RopeFreqBase = None,
    rope_freq_scale: RopeFreqScale = None,
    yarn_orig_ctx: YarnOrigCtx = None,
    mmproj: Annotated[
        str | None, typer.Option(metavar="FILE", help="A projector to count in: in the repository, or a local path.")
    ] = None,
    lora: Annotated[
        str | None, typer.Option(metavar="FILE", help="An adapter to count in: in the repository, or a local path.")
    ] = None,
    accuracy: Annotated[bool, typer.Option("--accuracy", help="Show how right plans were so far.")] = False,
    machines: Annotated[bool, typer.Option("--machines", help="List the machines that --machine knows.")] = False,
    json: Json = False,
) -> None:
    """Show which variants of a model fit here, and which is best."""
    from lilliput_client.cli import planning  # late: the help need not wait for HTTP and tables

    if accuracy + machines + (model is not None) > 1:
        raise typer.BadParameter("MODEL, --accuracy and --machines are three different questions: ask one", ctx)
    if accuracy:
        planning.show_accuracy(ctx, as_json=json)
    elif machines:
        planning.show_machines(ctx, as_json=json)
    elif model is None:
        raise missing(ctx, "model", "name a MODEL to plan")
    else:
        planning.show_plan(
            ctx,
            model,
            as_json=json,
            context=context,
            use_case=use_case,
            slots=slots,
            kv=kv,
            machine=machine,
            budget=budget,
            all=every,
            gpu_layers=gpu_layers,
            rope_scaling=rope_scaling,
            rope_freq_base=rope_freq_base,
            rope_freq_scale=rope_freq_scale,
            yarn_orig_ctx=yarn_orig_ctx,
            mmproj=mmproj,
            lora=lora,
        )
