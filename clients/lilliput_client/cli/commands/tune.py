"""``lilliput tune``."""

from __future__ import annotations

import typer

from lilliput_client import Trial, Tuning
from lilliput_client.cli import formats
from lilliput_client.cli.connection import connect, model_name
from lilliput_client.cli.options import Json, ModelName, examples, new_app
from lilliput_client.cli.output import console, print_json, table, talk

app = new_app()


@app.command(
    epilog=examples(("lilliput tune smollm2", "takes some seconds"), ("lilliput tune smollm2 --json", "for programs"))
)
def tune(ctx: typer.Context, model: ModelName, json: Json = False) -> None:
    """Measure which settings run a model fastest on this machine.

    Later loads of the model use them; --json tells all that was measured.
    """
    with connect(ctx) as client:
        tuning = client.tune(model_name(model))
    if json:
        print_json(tuning)
        return
    headers = ("FLASH ATTENTION", "THREADS", "MICRO-BATCH", "TOKENS/S", "DEEPER", "PROMPT TOKENS/S", "FOUR AT ONCE")
    console().print(table(headers, [_row(trial) for trial in tuning.trials], right=range(1, 7)))
    if tuning.disturbed:
        talk("other programs computed meanwhile: measure again when it is quiet")
    talk(f"from the next load on: {_told(tuning)}")


def _row(trial: Trial) -> tuple[str, ...]:
    rates = (*trial.tokens_per_s, trial.prompt_tokens_per_s, trial.wide_tokens_per_s)
    return (
        "on" if trial.flash_attention else "off",
        str(trial.threads),
        str(trial.ubatch_tokens),
        *(formats.UNKNOWN if rate is None else f"{rate:.1f}" for rate in rates),
    )


def _told(tuning: Tuning) -> str:
    parts = ["flash attention off"] if tuning.flash_attention is False else []
    parts += [f"{tuning.threads} threads"] if tuning.threads else []
    parts += [f"micro-batches of {tuning.ubatch_tokens} tokens"] if tuning.ubatch_tokens else []
    return ", ".join(parts) or "the usual settings, nothing was clearly faster"
