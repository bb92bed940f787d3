"""What the plan says about a 70B model on a laptop with 32 GB: the table in README.md.

``python -m tests.support.laptop_plan`` prints it. Planner, choice and drawing are the real ones; the machine, and the
repository's listing with published file sizes, are given (bartowski/Meta-Llama-3.1-70B-Instruct-GGUF on the Hub).
"""

from __future__ import annotations

import asyncio
import io
import sys
from pathlib import Path

import msgspec
from rich.console import Console
from tests.unit.fit.headers import LLAMA_70B

from lilliput.catalogue import Families, InstalledModel
from lilliput.gguf import Header
from lilliput.hardware import Cpu, Hardware, Memory
from lilliput.hub import OnWait, RemoteFile, Repository
from lilliput.services.plan import Plans
from lilliput.shipped import shipped
from lilliput.units import GIB
from lilliput_client import Plan
from lilliput_client.cli.plan_view import print_plan

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
    async def repository(self, repo_id: str, *, on_wait: OnWait | None = None) -> Repository:
        files = tuple(
            RemoteFile(f"Meta-Llama-3.1-70B-Instruct-{name}.gguf", round(size * 10**9), "0" * 64)
            for name, size in PUBLISHED_GB.items()
        )
        return Repository(repo_id, "a" * 40, files)

    async def read_header(self, repository: Repository, path: str, *, on_wait: OnWait | None = None) -> Header:
        return LLAMA_70B

    def cached(self, repository: Repository, file: RemoteFile) -> Path | None:
        return None


class _NothingInstalled:
    def installed(self) -> tuple[InstalledModel, ...]:
        return ()


def _laptop() -> Hardware:
    memory = Memory(total_bytes=32 * GIB, available_bytes=27 * GIB, host_total_bytes=32 * GIB)
    return Hardware("Linux", "", Cpu(None, "x86_64", 8, 16, 8, None), memory)


async def _plan() -> Plan:
    plans = Plans(_Hub(), _NothingInstalled(), Families.load([shipped("families.toml")]), hardware=_laptop)
    try:
        found = await plans.plan("llama3.1:70b")
    finally:
        await plans.aclose()
    return msgspec.convert(found.to_json(), Plan)


def laptop_plan() -> str:
    """The text that ``lilliput plan llama3.1:70b`` prints on that laptop."""
    out = io.StringIO()
    console = Console(file=out, width=150, markup=False, highlight=False, emoji=False, legacy_windows=False)
    print_plan(asyncio.run(_plan()), console)
    return "\n".join(line.rstrip() for line in out.getvalue().strip().splitlines()) + "\n"


if __name__ == "__main__":
    sys.stdout.write(laptop_plan())
