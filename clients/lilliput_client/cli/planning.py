"""What ``lilliput plan`` does: a plan, the accuracy of plans, or the machines there are descriptions of."""

from __future__ import annotations

from typing import Unpack

import typer

from lilliput_client import LoadWanted, Plan, PlanWanted
from lilliput_client.cli import next_steps
from lilliput_client.cli.connection import connect, file_name, model_name
from lilliput_client.cli.failures import exit_code, explain
from lilliput_client.cli.machine_file import read_machine
from lilliput_client.cli.output import console, print_json, talk
from lilliput_client.cli.plan_lists import accuracy_table, deviations_table, machines_table
from lilliput_client.cli.plan_view import does_not_fit, print_plan


def show_plan(ctx: typer.Context, model: str, *, as_json: bool, **wanted: Unpack[PlanWanted]) -> None:
    """Ask for a plan and print it; leaves with the exit code of a misfit when nothing was chosen."""
    machine = wanted.get("machine")
    if isinstance(machine, str):
        wanted["machine"] = read_machine(machine)
    wanted["mmproj"], wanted["lora"] = _heard(wanted.get("mmproj")), _heard(wanted.get("lora"))
    with connect(ctx) as client:
        found = client.plan(model_name(model), **wanted)
    load = _of_loading(found, wanted)
    if as_json:
        print_json(found)
    else:
        print_plan(found, console(), next_step=next_steps.after(found, load))
    if found.chosen is None:
        error = does_not_fit(found, load)
        explain(error)
        raise typer.Exit(exit_code(error))


def _heard(file: str | None) -> str | None:
    return None if file is None else file_name(file)


def _of_loading(found: Plan, wanted: PlanWanted) -> LoadWanted:
    """What of it a pull or a load can be asked for, too."""
    context = wanted.get("context")
    if context == "max" and found.taken is not None and found.taken.setting is not None:
        context = found.taken.setting.context_tokens
    return LoadWanted(
        context=context if isinstance(context, int) else None,
        use_case=wanted.get("use_case"),
        slots=wanted.get("slots"),
        kv=wanted.get("kv"),
        gpu_layers=wanted.get("gpu_layers"),
        rope_scaling=wanted.get("rope_scaling"),
        rope_freq_base=wanted.get("rope_freq_base"),
        rope_freq_scale=wanted.get("rope_freq_scale"),
        yarn_orig_ctx=wanted.get("yarn_orig_ctx"),
    )


def show_accuracy(ctx: typer.Context, *, as_json: bool) -> None:
    """Print how far plans were off."""
    with connect(ctx) as client:
        rows = client.accuracy()
    if as_json:
        print_json({"accuracy": rows})
    elif rows:
        out = console()
        out.print(accuracy_table(rows))
        out.print()
        out.print(deviations_table(rows))
        talk("more than zero: loads took more than was planned")
    else:
        talk("nothing was loaded yet that a plan can be compared with")


def show_machines(ctx: typer.Context, *, as_json: bool) -> None:
    """Print the described machines."""
    with connect(ctx) as client:
        machines = client.machines()
    if as_json:
        print_json({"machines": machines})
    else:
        console().print(machines_table(machines))
