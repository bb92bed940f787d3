from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tests.support.model import gemma_path

from lilliput.fit.resident import Repacking, hold_weights
from lilliput.gguf import FileSource, GgmlType, read_header
from lilliput.llama import ModelSettings
from lilliput.llama.buffers import parse_buffers
from lilliput.llama.library import start_library
from lilliput.llama.model import Model
from lilliput.llama.repack import ask_repacking, find_repacking
from lilliput.units import MIB


async def test_the_answer_predicts_what_a_real_load_copies() -> None:
    answer = await ask_repacking()
    assert answer is not None
    with FileSource(gemma_path()) as source:
        held = hold_weights([read_header(source).tensors], Repacking.from_mapping(answer))
    lines: list[str] = []
    log = start_library()
    log.on_line = lines.append
    try:
        with Model(ModelSettings(str(gemma_path()), gpu_layers=0)):
            weights = dict(parse_buffers(lines).weights)
    finally:
        log.on_line = None
    assert held.mapped_bytes == pytest.approx(weights.pop("CPU_Mapped"), abs=0.02 * MIB)
    assert held.copied_bytes == pytest.approx(sum(weights.values()), abs=0.02 * MIB)


def test_types_that_stay_where_they_are_are_not_named() -> None:
    assert find_repacking([GgmlType.F32, GgmlType.BF16, GgmlType.Q5_1]) == {
        "types": {},
        "experts": False,
        "tied_output": False,
    }


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
@pytest.mark.parametrize("says", ["echo nonsense", "exit 1", "sleep 60"])
async def test_a_child_that_fails_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str) -> None:
    script = tmp_path / "python"
    script.write_text(f"#!/bin/sh\nexec {says}\n" if says.startswith("sleep") else f"#!/bin/sh\n{says}\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    assert await ask_repacking(timeout_s=1) is None
