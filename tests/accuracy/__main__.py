"""``make accuracy``: load every variant for real, compare with the prediction, write the table.

Ends with status 1 when a bound is broken. Loads run one a model side by side, each with one thread.
"""

from __future__ import annotations

import argparse
import asyncio
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from tests.accuracy.document import DOCUMENT, render, worst
from tests.accuracy.planned import VariantPlans
from tests.accuracy.rows import PARTS, Row, load_row
from tests.accuracy.settings import LoadSetting, every_setting, some_settings
from tests.accuracy.variants import KINDS, Source, sources, variant_file
from tests.support.safe_rung import find_safe_rung

from lilliput.fit import Repacking
from lilliput.hardware import read_cpu
from lilliput.llama import Rung
from lilliput.llama.repack import ask_repacking
from lilliput.units import MIB

SETTINGS_A_VARIANT = 3


def main() -> int:
    """Measure, write the document, say the worst errors."""
    parser = argparse.ArgumentParser(prog="tests.accuracy")
    parser.add_argument("--quick", action="store_true", help="one load a variant, and the document stays as it is")
    quick = parser.parse_args().quick
    began = time.perf_counter()
    rung = asyncio.run(find_safe_rung())
    with tempfile.TemporaryDirectory(prefix="lilliput-accuracy-") as directory, ThreadPoolExecutor() as lanes:
        running = [lanes.submit(asyncio.run, _walk(source, Path(directory), rung, quick=quick)) for source in sources()]
        rows = [row for lane in running for row in lane.result()]
    took_s = time.perf_counter() - began
    if not quick:
        DOCUMENT.write_text(render(rows, _facts(rung, len(rows), took_s)), encoding="utf-8")
    return _verdict(rows, took_s)


async def _walk(source: Source, directory: Path, rung: Rung, *, quick: bool) -> list[Row]:
    """Every kind of one model: all settings for the file as it is, some for the others."""
    kinds = [source.original, *(kind for kind in KINDS if kind != source.original)]
    plans = VariantPlans(source, rung)
    tensors = await plans.learn(kinds)
    rows: list[Row] = []
    for number, kind in enumerate(kinds):
        settings = _settings(number, whole=number == 0, quick=quick)
        with variant_file(source, kind, tensors[kind], directory) as path:
            rows += [await load_row(plans, source.name, kind, path, setting, rung) for setting in settings]
        sys.stdout.write(f"{source.name} {number + 1}/{len(kinds)} {kind}: {len(settings)} loads\n")
        sys.stdout.flush()
    return rows


def _settings(number: int, *, whole: bool, quick: bool) -> Sequence[LoadSetting]:
    if quick:
        return some_settings(number, 1)
    return every_setting() if whole else some_settings(number, SETTINGS_A_VARIANT)


def _facts(rung: Rung, loads: int, took_s: float) -> list[tuple[str, str]]:
    cpu = read_cpu()
    answer = asyncio.run(ask_repacking(rung=rung))
    assert answer is not None, "llama.cpp did not say what it repacks"
    rows = Repacking.from_mapping(answer).rows
    copied = ", ".join(f"{name} (rows a multiple of {multiple})" for name, multiple in rows.items())
    return [
        ("Machine", f"{cpu.model}, {cpu.usable_cores} cores, {platform.system()} {platform.machine()}"),
        ("Build", f"llama-cpp-python {version('llama-cpp-python')}, CPU"),
        ("Safe settings", rung),
        ("Repacked on this machine", copied or "nothing"),
        ("Run", f"{datetime.now(UTC).date()}, {loads} loads in {took_s:.0f} s"),
    ]


def _verdict(rows: Sequence[Row], took_s: float) -> int:
    broken = False
    sys.stdout.write(f"\n{len(rows)} loads in {took_s:.0f} s; worst errors:\n")
    for part in PARTS:
        row = worst(rows, part)
        if row is None:
            sys.stdout.write(f"  {part:8} not measured here\n")
            continue
        excess = row.excess(part) or 0.0
        broken = broken or excess > 1
        difference = (row.difference(part) or 0) / MIB
        where = f"{row.model} {row.variant} {row.setting}"
        sys.stdout.write(f"  {part:8} {difference:+8.2f} MiB, {excess:4.0%} of what is allowed: {where}\n")
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
