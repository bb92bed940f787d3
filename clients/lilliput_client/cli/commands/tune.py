"""``lilliput tune``."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated

import typer

from lilliput_client import LoadChoices, Trial, Tuning
from lilliput_client.cli import formats
from lilliput_client.cli.connection import connect, model_name
from lilliput_client.cli.options import Json, ModelName, examples, new_app
from lilliput_client.cli.output import console, facts, print_json, table, talk

app = new_app()

_SWITCHES = {"on": True, "off": False}
_NUMBERS = ("threads", "batch_threads", "ubatch_tokens", "width")
_NAMES = tuple(item.name for item in fields(LoadChoices))

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help=f"Choose a setting: {', '.join(_NAMES)}; auto unsets it."),
]
Seconds = Annotated[
    float | None,
    typer.Option("--seconds", min=1, max=300, help="What it may take beside the loads; more is more exact."),
]
Clear = Annotated[bool, typer.Option("--clear", help="Unset all that was chosen.")]
Show = Annotated[bool, typer.Option("--show", help="Show what is known, without measuring.")]


@app.command(
    epilog=examples(
        ("lilliput tune smollm2", "takes about a minute; Ctrl-C keeps what was known"),
        ("lilliput tune smollm2 --show", "what was measured and chosen"),
        ("lilliput tune smollm2 --set threads=4 --set flash_attention=off", "goes before what was measured"),
        ("lilliput tune smollm2 --set threads=auto", "no longer"),
        ("lilliput tune smollm2 --json", "for programs"),
    )
)
def tune(
    ctx: typer.Context,
    model: ModelName,
    chosen: Set = None,
    clear: Clear = False,
    show: Show = False,
    seconds: Seconds = None,
    json: Json = False,
) -> None:
    """Measure which settings run a model fastest on this machine.

    Later loads of the model use them. --set chooses settings instead, which go before what was measured.
    """
    if sum((bool(chosen), clear, show)) > 1:
        raise typer.BadParameter("--set, --clear and --show exclude each other", ctx=ctx)
    changes = dict(_change(text) for text in chosen or ())
    with connect(ctx) as client:
        name = model_name(model)
        if changes:
            tuning = client.choose(name, changes)
        elif clear:
            tuning = client.clear_choices(name)
        else:
            tuning = client.tuning(name) if show else client.tune(name, _tell, seconds=seconds)
    if json:
        print_json(tuning)
    else:
        _print(tuning)


def _change(text: str) -> tuple[str, bool | int | None]:
    """A setting and its value, None for auto."""
    name, _, value = text.partition("=")
    name = name.strip().replace("-", "_")
    value = value.strip().lower()
    if name not in _NAMES:
        raise typer.BadParameter(f"{name!r} is none of {', '.join(_NAMES)}")
    if value == "auto":
        return name, None
    if name in _NUMBERS and value.isdecimal():
        return name, int(value)
    if name not in _NUMBERS and value in _SWITCHES:
        return name, _SWITCHES[value]
    raise typer.BadParameter(f"{name} is {'a number' if name in _NUMBERS else 'on or off'}, or auto; not {value!r}")


def _tell(trial: Trial) -> None:
    """One line for each trial as it ends."""
    rates = [f"{rate:.1f} tokens/s behind {depth}" for depth, rate in trial.tokens_per_s]
    rates += [] if trial.prompt_tokens_per_s is None else [f"{trial.prompt_tokens_per_s:.0f} of a prompt"]
    rates += [f"{rate:.1f} of {width} together" for width, rate in trial.wide_tokens_per_s[-1:]]
    talk(f"{_setting(trial)}: {', '.join(rates)}")


def _print(tuning: Tuning) -> None:
    if tuning.trials:
        widths = dict.fromkeys(width for trial in tuning.trials for width, _ in trial.wide_tokens_per_s)
        headers = ("SETTING", "TOKENS/S", "DEEPER", "PROMPT", *(f"{width} TOGETHER" for width in widths))
        rows = [_row(trial, tuple(widths)) for trial in tuning.trials]
        console().print(table(headers, rows, right=range(1, len(headers))))
    console().print(facts([(name, _value(tuning, name)) for name in _NAMES]))
    if not tuning.trials:
        talk("nothing was measured yet")
    if tuning.disturbed:
        talk("other programs computed meanwhile: measure again when it is quiet")
    talk(f"from the next load on: {_told(tuning.settings)}")


def _row(trial: Trial, widths: tuple[int, ...]) -> tuple[str, ...]:
    depths = [rate for _, rate in trial.tokens_per_s]
    together = dict(trial.wide_tokens_per_s)
    rates = (*[*depths, None, None][:2], trial.prompt_tokens_per_s, *(together.get(width) for width in widths))
    return _setting(trial), *(formats.UNKNOWN if rate is None else f"{rate:.1f}" for rate in rates)


def _setting(trial: Trial) -> str:
    """What tells this trial from the usual one; all have their threads and micro-batch."""
    parts = [f"flash attention {'on' if trial.flash_attention else 'off'}", f"{trial.threads} threads"]
    parts += [f"{trial.batch_threads} for batches"] if trial.batch_threads != trial.threads else []
    parts.append(f"micro-batch {trial.ubatch_tokens}")
    parts += [] if trial.repack else ["not repacked"]
    parts += [] if trial.memory_map else ["not mapped"]
    return ", ".join(parts)


def _value(tuning: Tuning, name: str) -> str:
    """A setting with where it comes from."""
    chosen, measured = getattr(tuning.chosen, name), getattr(tuning.measured, name)
    if chosen is not None:
        return f"{_shown(chosen)} (chosen)"
    return "usual" if measured is None else f"{_shown(measured)} (measured)"


def _told(settings: LoadChoices) -> str:
    values = [(name, getattr(settings, name)) for name in _NAMES]
    parts = [f"{name.replace('_', ' ')} {_shown(value)}" for name, value in values if value is not None]
    return ", ".join(parts) or "the usual settings"


def _shown(value: bool | int) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
