"""``lilliput load``."""

from __future__ import annotations

from typing import Annotated

import typer

from lilliput_client.cli import formats
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
    YarnOrigCtx,
    examples,
    new_app,
)
from lilliput_client.cli.output import print_json, talk
from lilliput_client.plans import LoadWanted

app = new_app()


@app.command(
    epilog=examples(
        ("lilliput load smollm2", "so that the first request need not wait"),
        ("lilliput load smollm2 --keep-alive 2h", "it goes two hours after its last request"),
        ("lilliput load smollm2 --pin", "it stays, and is loaded whenever the daemon starts"),
        note="How it is to be loaded (--context, --slots, --kv, ...) holds for later loads, too.",
    )
)
def load(  # noqa: PLR0913, PLR0917 - a command's options are its arguments
    ctx: typer.Context,
    model: ModelName,
    keep_alive: Annotated[
        str | None,
        typer.Option("--keep-alive", metavar="TIME", help="How long it stays unused: 10m, 2h, seconds; -1: for ever."),
    ] = None,
    pin: Annotated[bool, typer.Option("--pin", help="Keep it, also after a restart.")] = False,
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
    json: Json = False,
) -> None:
    """Load an installed model into memory."""
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
    with connect(ctx) as client:
        engine = client.load(name, keep_alive=keep_alive, **wanted)
        if pin:
            client.pin(engine.model)
            engine = next((one for one in client.engines() if one.model == engine.model), engine)
    if json:
        print_json(engine)
        return
    memory, context_tokens = formats.size(engine.memory_bytes), formats.text(engine.context_tokens)
    talk(f"{engine.model} is loaded: {memory}, a context of {context_tokens} tokens, {engine.slots} slots")
