"""What the planner recommends for well-known models on four machines: docs/recommendations.md.

``python -m tests.support.recommendations`` writes it anew; a test compares it with what the planner says now.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.planner import make_planner, read_shape, repository
from tests.support.shapes import Dense, ShapeFile, dense

from lilliput.fit import RAM
from lilliput.services.plan_records import Plan, PlannedVariant
from lilliput.services.plan_request import PlanRequest
from lilliput.units import format_bytes

DOCUMENT = Path(__file__).parents[2] / "docs" / "recommendations.md"
TYPES = (
    "Q8_0",
    "Q6_K",
    "Q5_K_M",
    "Q5_K_S",
    "Q4_K_M",
    "Q4_K_S",
    "IQ4_XS",
    "Q3_K_L",
    "Q3_K_M",
    "Q3_K_S",
    "IQ3_XXS",
    "Q2_K",
    "IQ2_M",
    "IQ2_XXS",
)
MACHINES = {
    "macbook-m2-16gb": "MacBook, M2, 16 GB",
    "macbook-m3-32gb": "MacBook, M3, 32 GB",
    "pc-32gb-24gb-vram": "PC, 32 GB and a card with 24 GB",
    "pc-64gb-workstation": "Workstation, 64 GB",
}
USE_CASES = ("general", "bulk", "experiment")
MODELS: dict[str, ShapeFile] = {
    "Llama 3.1 8B": dense("llama", Dense(32, 4096, 32, 8, 14336, 128256), rope__freq_base=500000.0),
    "Qwen2.5 32B": dense("qwen2", Dense(64, 5120, 40, 8, 27648, 152064, biased=True), rope__freq_base=1000000.0),
    "Llama 3.1 70B": dense("llama", Dense(80, 8192, 64, 8, 28672, 128256), rope__freq_base=500000.0),
}
ELEMENTS_70B = 70_553_706_560


@dataclass(frozen=True, slots=True)
class Answers:
    """Plans by model, machine and use case."""

    plans: dict[tuple[str, str, str], Plan]


async def ask() -> Answers:
    """Ask the planner about every model, machine and use case."""
    planner, oracle = make_planner()
    plans = {}
    for model, shape in MODELS.items():
        facts = await asyncio.to_thread(read_shape, shape)
        entries = await repository(oracle, facts, TYPES)
        for machine in MACHINES:
            for case in USE_CASES:
                request = PlanRequest(model, machine=machine, use_case=case)
                plans[model, machine, case] = (await planner.judge(request, facts, entries, None)).plan
    return Answers(plans)


def write(answers: Answers) -> str:
    """The document."""
    parts = [_HEAD]
    for model in MODELS:
        parts += [f"## {model}", "", _table(answers, model), ""]
        for machine, title in MACHINES.items():
            plan = answers.plans[model, machine, "general"]
            parts += [f"**{title}.** {_argument(plan)}", ""]
    parts += ["## 70B in 32 GB with Q4_K_M", "", _not_so(answers), ""]
    return "\n".join(parts)


def _table(answers: Answers, model: str) -> str:
    rows = ["| machine | " + " | ".join(USE_CASES) + " |", "|---|" + "---|" * len(USE_CASES)]
    for machine, title in MACHINES.items():
        cells = [_cell(answers.plans[model, machine, case]) for case in USE_CASES]
        rows.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(rows)


def _cell(plan: Plan) -> str:
    if plan.chosen is None:
        return "nothing fits"
    one = plan.variant(plan.chosen)
    assert one.setting is not None
    details = [f"context {one.setting.context_tokens}"]
    details += [f"{one.setting.kv_type} KV"] if one.setting.kv_type != "f16" else []
    details += [f"{one.setting.gpu_layers} layers on the card"] if one.offload == "partial" else []
    details += [_speed(one)] if one.tokens_per_s else []
    return f"**{one.name}**: {', '.join(details)}"


def _speed(one: PlannedVariant) -> str:
    speed = one.tokens_per_s
    assert speed is not None
    return f"{speed.low:.2g}-{speed.high:.2g} tokens/s"


def _argument(plan: Plan) -> str:
    budgets = ", ".join(f"{name} {format_bytes(part.budget_bytes)}" for name, part in plan.budget.items())
    return f"Budget: {budgets}. {plan.summary}."


def _not_so(answers: Answers) -> str:
    plan = answers.plans["Llama 3.1 70B", "macbook-m3-32gb", "general"]
    trial = answers.plans["Llama 3.1 70B", "macbook-m3-32gb", "experiment"]
    one = plan.variant("Q4_K_M")
    need, budget = one.need[RAM], plan.budget[RAM]
    beyond = one.file_bytes - budget.budget_bytes
    size, whole, all_in_all = map(format_bytes, (one.file_bytes, budget.total_bytes, one.total_bytes))
    cache, scratch = format_bytes(need.kv), format_bytes(need.compute + need.overhead)
    bits = f"{8 * one.file_bytes / ELEMENTS_70B:.2f}"
    return f"""This advice is often read, and it cannot be right. The file alone has {size} ({bits} bits a weight), the
machine {whole} in all. With {cache} of KV cache at {plan.context_tokens} tokens and {scratch} for computing it
needs {all_in_all}. Memory-mapped weights do not change that: every token reads all of them, so what does not stay in
memory is read from the disk for every token: {format_bytes(beyond)} more than the budget, which takes
{beyond / 3e9:.0f} s at 3 GB/s. What does fit there is {trial.chosen}, for experiments. The sizes of all nine common
types, beside the published ones, are checked by tests/unit/llama."""


_HEAD = """# What to run on which machine

Written by `python -m tests.support.recommendations`, checked by a test. Sizes are exact: llama.cpp itself plans each
variant from the model's shape. Memory on cards is an estimate, since this was written without them, and speeds are told
from the machines' published bandwidths (`config/machines.toml` names the sources), so they come as wide intervals.
`lilliput plan MODEL --machine NAME --use-case CASE` asks the same of any model.

What is chosen is the best quality that fits, never below the use case's floor (`config/use_cases.toml`): Q4_K_M for
general use, Q3_K_M for bulk work, Q2_K for experiments.
"""


def main() -> None:
    """Write the document."""
    text = write(asyncio.run(ask()))
    DOCUMENT.write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
