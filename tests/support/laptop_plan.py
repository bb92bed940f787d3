"""What the plan says about a 70B model on a laptop with 32 GB: the table in README.md.

``python -m tests.support.laptop_plan`` prints it. Planner, choice and drawing are the real ones and the laptop is a
described machine; the repository's listing with published file sizes is given
(bartowski/Meta-Llama-3.1-70B-Instruct-GGUF on the Hub), and so is the header of its smallest file.
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from tests.support.model_headers import LLAMA_70B, q2_k

from lilliput.catalogue import Families, InstalledModel
from lilliput.fit import Calibration, QualityTable, UseCases, assume
from lilliput.gguf import Header
from lilliput.hardware import Hardware, Machines, read_tables
from lilliput.hub import OnWait, RemoteFile, Repository
from lilliput.llama import build_digest
from lilliput.pool import Holding
from lilliput.services import Oracle, PlanDefaults, Planner, PlanRequest, Plans, Sites
from lilliput.shipped import shipped
from lilliput_client import Plan
from lilliput_client.cli.plan_view import does_not_fit, print_plan

MODEL, MACHINE = "llama3.1:70b", "laptop-32gb"
PUBLISHED_GB = {
    "Q8_0": 74.98,
    "Q6_K": 57.89,
    "Q5_K_M": 49.95,
    "Q4_K_M": 42.52,
    "Q4_K_S": 40.35,
    "Q3_K_L": 37.14,
    "Q3_K_M": 34.27,
    "Q3_K_S": 30.91,
    "Q2_K": 26.38,
}


class _Hub:
    async def repository(self, repo_id: str, *, brief: bool = False) -> Repository:
        files = tuple(
            RemoteFile(f"Meta-Llama-3.1-70B-Instruct-{name}.gguf", round(size * 10**9), "0" * 64)
            for name, size in PUBLISHED_GB.items()
        )
        return Repository(repo_id, "a" * 40, files)

    async def read_header(self, repository: Repository, path: str, *, on_wait: OnWait | None = None) -> Header:
        return LLAMA_70B.header(q2_k)


class _NothingInstalled:
    def installed(self) -> tuple[InstalledModel, ...]:
        return ()

    def get_fact(self, key: str) -> str | None:
        return None


class _NothingKept:
    def get_fact(self, key: str) -> str | None:
        return None

    def set_fact(self, key: str, value: str) -> None:
        pass


class _NothingMeasured:
    def of_cpu(self, bandwidth_bytes_s: float, *, here: bool) -> Calibration:
        return assume(bandwidth_bytes_s, "cpu")

    def of_device(self, name: str) -> Calibration | None:
        raise AssertionError(f"{name} is described")

    def overhead_bytes(self, architecture: str, backend: str, offload: str) -> int:
        return 0


def _no_machine() -> Hardware:
    raise AssertionError("the machine is described")


def _no_engines() -> Sequence[Holding]:
    return ()


def _no_devices() -> Sequence[str]:
    return ()


async def _plan() -> Plan:
    defaults, known = PlanDefaults(), _NothingMeasured()
    machines = Machines.from_mapping(_shipped("machines.toml"))
    planner = Planner(
        Oracle(_NothingKept(), build_digest(), _no_devices),
        Sites(_no_machine, machines, defaults, known, _no_engines),
        QualityTable.from_mapping(_shipped("quality.toml")),
        UseCases.from_mapping(_shipped("use_cases.toml")),
        defaults,
        known,
    )
    plans = Plans(_Hub(), _NothingInstalled(), Families([shipped("families.toml")]), planner)
    try:
        found = await plans.plan(PlanRequest(MODEL, machine=MACHINE))
    finally:
        await plans.aclose()
    return msgspec.convert(msgspec.to_builtins(found), Plan)


def _shipped(name: str) -> dict[str, object]:
    return read_tables(Path(shipped(name)))


def laptop_plan() -> str:
    """The text that ``lilliput plan llama3.1:70b --machine laptop-32gb`` prints."""
    out = io.StringIO()
    console = Console(file=out, width=150, markup=False, highlight=False, emoji=False, legacy_windows=False)
    found = asyncio.run(_plan())
    print_plan(found, console)
    if found.chosen is None:
        error = does_not_fit(found)
        console.print(f"error: {error.message}\nhint: {error.hint}", soft_wrap=True)
    return "\n".join(line.rstrip() for line in out.getvalue().strip().splitlines()) + "\n"


if __name__ == "__main__":
    sys.stdout.write(laptop_plan())
