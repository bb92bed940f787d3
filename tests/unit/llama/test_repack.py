from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from tests.support.model import gemma_path
from tests.support.other_children import instead
from tests.support.safe_rung import find_safe_rung, rungs_here

from lilliput.fit.resident import Repacking, hold_weights
from lilliput.gguf import FileSource, GgmlType, read_header
from lilliput.llama import ContextSettings, ModelSettings
from lilliput.llama.load_values import Loaded, LoadRequest
from lilliput.llama.repack import ask_repacking, find_repacking
from lilliput.units import MIB


async def test_the_answer_predicts_what_a_real_load_copies() -> None:
    rung = await find_safe_rung(gemma_path())
    answer = await ask_repacking(rung=rung)
    assert answer is not None
    with FileSource(gemma_path()) as source:
        held = hold_weights([read_header(source).tensors], Repacking.from_mapping(answer))
    model = ModelSettings(str(gemma_path()), gpu_layers=0, rung=rung)
    request = LoadRequest(model, ContextSettings(256, 2, ubatch_tokens=16, threads=1, output_rows=2), slots=1, steps=1)
    done = subprocess.run(
        [sys.executable, "-m", "lilliput.llama.measure_load"],
        input=msgspec.json.encode(request),
        capture_output=True,
        check=True,
    )
    buffers = msgspec.json.decode(done.stdout, type=Loaded).buffers
    assert buffers is not None
    weights = dict(buffers.weights)
    assert held.mapped_bytes == pytest.approx(weights.pop("CPU_Mapped"), abs=0.02 * MIB)
    assert held.copied_bytes == pytest.approx(sum(weights.values()), abs=0.02 * MIB)


async def test_only_a_rung_that_computes_here_answers() -> None:
    fastest = rungs_here()[0]
    assert (await ask_repacking(rung=fastest) is None) == (await find_safe_rung(gemma_path()) != fastest)


@pytest.mark.skipif("no-amx" not in rungs_here(), reason="this machine has no AMX, or lets no process do without")
async def test_without_amx_weights_are_repacked_all_the_same() -> None:
    answer = await ask_repacking(rung="no-amx")
    assert answer is not None
    assert {kind["buffer"] for kind in answer["types"].values()} == {"CPU_REPACK"}
    assert {"Q4_0", "Q4_K"} <= set(answer["types"])


async def test_without_extra_buffers_nothing_is_repacked() -> None:
    answer = await ask_repacking(rung="no-extra-buffers")
    assert answer == {"types": {}, "experts": False, "tied_output": False}


def test_types_that_stay_where_they_are_are_not_named() -> None:
    assert find_repacking([GgmlType.F32, GgmlType.BF16, GgmlType.Q5_1]) == {
        "types": {},
        "experts": False,
        "tied_output": False,
    }


@pytest.mark.parametrize("does", ["print('nonsense', flush=True); os._exit(0)", "os._exit(1)"])
async def test_a_child_that_fails_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, does: str) -> None:
    instead(tmp_path, monkeypatch, does)
    assert await ask_repacking() is None


async def test_a_child_that_is_too_slow_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instead(tmp_path, monkeypatch, "time.sleep(60)")
    with pytest.raises(TimeoutError):
        await ask_repacking(timeout_s=1)
