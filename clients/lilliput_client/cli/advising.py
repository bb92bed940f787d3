"""What ``lilliput advise`` does: ask what is to be asked, plan, and tell the way from there."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import typer
from rich.padding import Padding
from rich.text import Text

from lilliput_client import Client, NotFound, Plan, UseCase, Variant
from lilliput_client.cli import formats
from lilliput_client.cli.advice import Advice, Step, advise
from lilliput_client.cli.connection import connect, model_name
from lilliput_client.cli.failures import exit_code, explain
from lilliput_client.cli.hardware_view import gist
from lilliput_client.cli.machine_file import read_machine
from lilliput_client.cli.next_steps import is_here
from lilliput_client.cli.options import missing
from lilliput_client.cli.output import console, facts, print_json, talk
from lilliput_client.cli.plan_view import budget_lines, does_not_fit

_INDENT = (0, 0, 0, 3)


def show_advice(
    ctx: typer.Context, model: str | None, *, use_case: str | None, machine: str | None, as_json: bool
) -> None:
    """Print the advice; leaves with the exit code of a misfit when nothing fits."""
    described = read_machine(machine)
    with connect(ctx) as client:
        if model is None:
            raise missing(ctx, "model", _which(client))
        cases = client.use_cases()
        if use_case is None and not as_json and sys.stdin is not None and sys.stdin.isatty():
            use_case = ask_use_case(cases)
        plan = client.plan(model_name(model), use_case=use_case, machine=described)
    advice = advise(plan, next((case for case in cases if case.name == plan.use_case), None))
    if as_json:
        print_json(_document(advice))
    else:
        print_advice(advice)
    if advice.start is None:
        error = does_not_fit(plan)
        explain(error)
        raise typer.Exit(exit_code(error))


def ask_use_case(cases: Sequence[UseCase]) -> str | None:
    """What the person chooses of ``cases``, by number or name; an empty answer leaves it to the daemon."""
    for number, case in enumerate(cases, 1):
        talk(f"{number:>2}  {case.name:<12}  {case.description or case.title or ''}")
    sys.stderr.write("What is it for? A number or a name, Enter for general use: ")
    sys.stderr.flush()
    answer = sys.stdin.readline().strip()
    if answer.isdecimal() and 0 < int(answer) <= len(cases):
        return cases[int(answer) - 1].name
    return answer or None


def print_advice(advice: Advice) -> None:
    """Print the way from the use case to the command to type."""
    out = console()
    plan = advice.plan
    out.print(Text(f"1. What it is for: {_purpose(advice)}", style="bold"))
    if advice.use_case is not None and advice.use_case.description:
        out.print(_indented(advice.use_case.description))
    out.print(Text("2. The machine", style="bold"))
    out.print(_indented(gist(plan.machine)))
    for line in budget_lines(plan):
        out.print(Padding(line, _INDENT, expand=False))
    if advice.start is None:
        out.print(Text("3. There is nothing to start with", style="bold"))
        for told in (plan.summary or "", *(f"{one.name} {way}" for one in plan.variants for way in one.near_misses)):
            out.print(_indented(told))
        return
    out.print(Text(f"3. Start with {advice.start.name}", style="bold"))
    out.print(Padding(facts(_of_start(advice.start)), _INDENT, expand=False))
    out.print(Text("4. Test it with questions of your own", style="bold"))
    for command in advice.test:
        out.print(_indented(command))
    others = "; this judged what is installed, name its repository to see all" if is_here(advice.start) else ""
    _print_step("5. Too many mistakes? One step up", advice.up, f"there is nothing better{others}")
    _print_step("6. Too slow or too large? One step down", advice.down, f"there is nothing lighter{others}")
    for note in plan.notes:
        out.print(_indented(f"note: {note}"))
    where = f" (on {plan.machine.described})" if plan.machine.described else ""
    out.print(Text(f"Next{where}: {advice.next_command}", style="bold"))


def _indented(text: str) -> Padding:
    return Padding(Text(text), _INDENT, expand=False)


def _print_step(title: str, step: Step | None, none: str) -> None:
    out = console()
    out.print(Text(f"{title}: {step.variant.name}" if step else title, style="bold"))
    out.print(_indented(step.difference if step else none))
    if step is not None and step.variant.fits:
        out.print(_indented(step.command))


def _purpose(advice: Advice) -> str:
    case = advice.use_case
    if case is None:
        return advice.plan.use_case or "anything"
    wants = [f"never below {case.floor}"] if case.floor else []
    if case.target_tokens_per_s:
        wants.append(f"{case.target_tokens_per_s:g} tokens/s")
    if case.context_tokens:
        wants.append(f"{case.context_tokens} tokens of context")
    return (case.title or case.name) + (f" ({', '.join(wants)})" if wants else "")


def _of_start(start: Variant) -> Iterator[tuple[str, str]]:
    yield "why", formats.text(start.reason)
    yield "size", f"{formats.size(start.file_bytes)} on disk, {formats.size(start.total_bytes)} of memory"
    if start.setting is not None:
        setting = start.setting
        told = [
            f"{setting.context_tokens} tokens of context",
            f"{setting.slots} at once",
            f"{setting.kv_type} KV cache",
        ]
        if start.offload != "none":
            told.append(f"{setting.gpu_layers} layers on accelerators")
        yield "loaded with", ", ".join(told)
    prompt = start.prompt_tokens_per_s
    reads = f", reads prompts at {formats.speed(prompt)}" if prompt else ""
    yield "speed", f"{formats.speed(start.tokens_per_s)} tokens/s{reads}"
    if start.quality is not None:
        quality = start.quality
        loss = f"KLD {formats.divergence(quality.kld)}, perplexity {formats.rise(quality.dppl_percent)}"
        yield "quality loss", f"{loss} ({formats.text(quality.source)})"


def _which(client: Client) -> str:
    """Why a model must be named, with those that are at hand."""
    try:
        installed = ", ".join(model.name for model in client.models())
    except NotFound:
        installed = ""
    known = f"; installed: {installed}" if installed else ""
    return f"name a MODEL: the daemon keeps no list to suggest one from{known}"


def _document(advice: Advice) -> dict[str, object]:
    plan: Plan = advice.plan
    return {
        "model": plan.model,
        "use_case": advice.use_case or plan.use_case,
        "machine": plan.machine,
        "hardware": gist(plan.machine),
        "budget": plan.budget,
        "start": advice.start,
        "test": advice.test,
        "step_up": advice.up,
        "step_down": advice.down,
        "next": advice.next_command,
        "notes": plan.notes,
    }
