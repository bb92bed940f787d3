"""What all commands share of their arguments and help."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import typer


def _context(text: str) -> int | Literal["max"]:
    if text.strip().lower() == "max":
        return "max"
    if text.strip().isdecimal() and int(text) > 0:
        return int(text)
    raise typer.BadParameter(f"{text!r} is neither a number of tokens nor max")


_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 7 * 86400.0}


def _duration(text: str) -> float:
    number, unit = text.strip()[:-1], text.strip()[-1:].lower()
    try:
        seconds = float(number) * _UNITS_S[unit]
    except (ValueError, KeyError):
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise typer.BadParameter(f"{text!r} is no duration: write 90m, 36h, 7d or 2w")
    return seconds


OlderThan = Annotated[
    Any,
    typer.Option("--older-than", parser=_duration, metavar="DURATION", help="Leave what is younger (default: 7d)."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
ModelName = Annotated[
    str,
    typer.Argument(metavar="MODEL", help="A name (llama3.1:8b), a Hub repository (org/repo:Q4_K_M) or a file."),
]
OptionalModelName = Annotated[
    str | None,
    typer.Argument(metavar="MODEL", help="A name (llama3.1:8b), a Hub repository (org/repo:Q4_K_M) or a file."),
]
ModelNames = Annotated[list[str], typer.Argument(metavar="MODEL...", help="The models' names.")]
OptionalModelNames = Annotated[
    list[str] | None, typer.Argument(metavar="[MODEL...]", help="The models' names; all models without.")
]
Context = Annotated[int | None, typer.Option("--context", min=1, metavar="TOKENS", help="The context to plan for.")]
ContextOrMax = Annotated[
    Any,
    typer.Option("--ctx", "--context", parser=_context, metavar="N|max", help="Tokens of context; max: all there is."),
]
UseCaseName = Annotated[
    str | None, typer.Option("--use-case", metavar="NAME", help="What it is for: general, coding, high-stakes, ...")
]
Machine = Annotated[
    str | None, typer.Option("--machine", metavar="NAME|FILE", help="Another machine, by name or as a TOML file.")
]
Variant = Annotated[str | None, typer.Option("--variant", metavar="QUANT", help="Take this quantization.")]
Slots = Annotated[int | None, typer.Option(min=1, metavar="N", help="Requests to be answered at once.")]
KvType = Annotated[str | None, typer.Option("--kv", metavar="TYPE", help="The KV cache's type: f16, q8_0, q4_0, ...")]
GpuLayers = Annotated[int | None, typer.Option("--gpu-layers", min=0, metavar="N", help="Layers on accelerators.")]
RopeScaling = Annotated[
    str | None,
    typer.Option(
        "--rope-scaling",
        metavar="none|linear|yarn",
        help="How to stretch the context beyond what the model was trained for.",
    ),
]
RopeFreqBase = Annotated[
    float | None, typer.Option("--rope-freq-base", metavar="N", help="Rope's base frequency, instead of the file's.")
]
RopeFreqScale = Annotated[
    float | None,
    typer.Option("--rope-freq-scale", metavar="N", help="How far to stretch: 0.25 for four times; else as needed."),
]
YarnOrigCtx = Annotated[
    int | None,
    typer.Option("--yarn-orig-ctx", min=1, metavar="TOKENS", help="The context that YaRN stretches."),
]
DraftModel = Annotated[
    str | None,
    typer.Option(
        "--draft",
        metavar="MODEL",
        help="An installed, smaller model of the same vocabulary that drafts; none: without.",
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Take it even if it is not expected to fit.")]


@dataclass(frozen=True, slots=True)
class Globals:
    """The options given before the command."""

    url: str | None = None


def new_app(**settings: Any) -> typer.Typer:
    """A Typer whose help is plain text: Rich's would cost every call its import."""
    settings.setdefault("add_completion", "cls" in settings)
    return typer.Typer(
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        **settings,
    )


def examples(*lines: tuple[str, str], note: str | None = None) -> str:
    """The end of a command's help: calls one can copy, each with what it does."""
    width = max(len(call) for call, _ in lines) + 2
    block = "\b\nExamples:\n" + "\n".join(f"  {call:<{width}}{meaning}".rstrip() for call, meaning in lines)
    return block if note is None else f"{block}\n\n{note}"


def missing(ctx: typer.Context, name: str, message: str) -> typer.BadParameter:
    """The complaint that the parameter called ``name`` is not given where it is needed."""
    parameter: Any = next((one for one in ctx.command.params if one.name == name), None)
    return typer.BadParameter(message, ctx=ctx, param=parameter)
