"""Dry runs by the real library, in the children that serve them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from tests.support.model import gemma_path, smollm2_path
from tests.support.other_children import instead
from tests.support.shapes import Dense, Value, dense

from lilliput.gguf import FileSource, read_header, write_stand_in
from lilliput.llama import ContextSettings, ModelSettings, Point, dry_runs, run_dry
from lilliput.units import MIB

SMALL = Dense(2, 256, 4, 2, 512, 1000)
GOOD = ContextSettings(512, 1)


def write(directory: Path, name: str = "model.gguf", **keys: Value) -> ModelSettings:
    return ModelSettings(str(dense("llama", SMALL, **keys).write(directory / name)), gpu_layers=0)


def stand_in(source: Path, directory: Path) -> ModelSettings:
    with FileSource(source) as opened:
        header = read_header(opened)
    write_stand_in(header, directory / "stand-in.gguf")
    return ModelSettings(str(directory / "stand-in.gguf"), gpu_layers=0)


async def test_points_are_answered_in_their_order(tmp_path: Path) -> None:
    model = write(tmp_path)
    points = [
        Point(model, ContextSettings(tokens, 1, kv_type=kind)) for kind in ("f16", "q8_0") for tokens in (512, 1024)
    ]
    planned, quantized = await run_dry(points)
    assert [result.number for result in planned] == [0, 1, 2, 3]
    f16_bytes = 2 * 2 * 512 * 2 * 64 * 2
    sizes = [result.buffers.cache_bytes for result in planned if result.buffers]
    assert sizes == pytest.approx([f16_bytes, 2 * f16_bytes, f16_bytes * 17 / 32, f16_bytes * 17 / 16], abs=0.01 * MIB)
    assert quantized == []


async def test_a_sliding_window_has_a_cache_of_its_own(tmp_path: Path) -> None:
    (result,), _ = await run_dry([Point(stand_in(gemma_path(), tmp_path), ContextSettings(8192, 1))])
    assert result.buffers is not None
    found = [(cache.kind, cache.size_bytes / MIB, cache.cells) for cache in result.buffers.caches]
    assert found == [("attention", 24, 8192), ("window", 15, 1024)]
    assert result.buffers.compute == {"CPU": round(514.5 * MIB)}


async def test_room_for_fewer_logits_is_all_that_a_forward_pass_needs(tmp_path: Path) -> None:
    model = stand_in(gemma_path(), tmp_path)
    planned, _ = await run_dry([Point(model, ContextSettings(2048, 9, output_rows=rows)) for rows in (0, 1, 9)])
    every, least, sequences = [result.buffers for result in planned]
    assert every is not None
    assert least is not None
    assert sequences is not None
    assert least.compute == sequences.compute
    assert sum(least.compute.values()) < sum(every.compute.values()) / 10
    assert every.output == least.output == {"CPU": 9 * MIB}


async def test_a_refused_point_says_why_and_others_are_answered(tmp_path: Path) -> None:
    model = write(tmp_path)
    settings = [
        ContextSettings(512, 1, kv_type="q8_0", flash_attention=False),
        ContextSettings(512, 300),
        ContextSettings(512, 1, kv_type="q9_9"),
        GOOD,
    ]
    planned, _ = await run_dry([Point(model, context) for context in settings])
    errors = [result.error or "" for result in planned]
    assert "quantized V cache requires flash_attn" in errors[0]
    assert "n_seq_max must be <= 256" in errors[1]
    assert "'q9_9' is no type for a KV cache" in errors[2]
    assert planned[3].buffers is not None


async def test_a_refused_file_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    broken = write(tmp_path, "broken.gguf", block_count=3)
    missing = ModelSettings(str(tmp_path / "none.gguf"))
    planned, _ = await run_dry([Point(broken, GOOD), Point(missing, GOOD), Point(write(tmp_path), GOOD)])
    assert "tensor 'blk.2.attn_norm.weight' not found" in (planned[0].error or "")
    assert "none.gguf" in (planned[1].error or "")
    assert planned[2].buffers is not None


@pytest.mark.parametrize("keys", [{"block_count": 0}, {"expert_count": 8, "expert_used_count": 100}])
async def test_a_point_that_ends_the_child_is_answered_and_a_new_child_goes_on(
    tmp_path: Path, keys: dict[str, Any]
) -> None:
    deadly, good = write(tmp_path, "deadly.gguf", **keys), write(tmp_path)
    planned, quantized = await run_dry([Point(good, GOOD), Point(deadly, GOOD), Point(good, GOOD)], ["Q8_0"])
    assert planned[1].error == "llama.cpp ended its process over this"
    assert planned[0].buffers == planned[2].buffers is not None
    assert quantized[0].tensor_types is not None


async def test_a_context_that_ends_the_child_does_not_take_the_others_along(tmp_path: Path) -> None:
    model = write(tmp_path)
    planned, _ = await run_dry([Point(model, ContextSettings(-5, 1)), Point(model, GOOD)])
    assert planned[0].error == "llama.cpp ended its process over this"
    assert planned[1].buffers is not None


async def test_children_are_not_replaced_for_ever(tmp_path: Path) -> None:
    deadly = write(tmp_path, block_count=0)
    count = dry_runs.MOST_DEATHS + 3
    planned, _ = await run_dry([Point(deadly, GOOD)] * count)
    assert [result.error for result in planned] == ["llama.cpp ended its process over this"] * count


@pytest.mark.parametrize(
    "keys",
    [
        {"vocab_size": 2**31 - 1},
        {"vocab_size": 2**32 - 1},
        {"block_count": 2**32 - 1},
        {"embedding_length": 2**31},
        {"attention__head_count": 0},
        {"attention__head_count_kv": 2**31},
        {"expert_count": 10**6, "expert_used_count": 2},
        {"attention__layer_norm_rms_epsilon": "small"},
    ],
    ids="-".join,
)
async def test_hostile_numbers_get_an_error_in_little_time(tmp_path: Path, keys: dict[str, Any]) -> None:
    began = time.perf_counter()
    planned, _ = await run_dry([Point(write(tmp_path, **keys), GOOD)], timeout_s=15)
    assert planned[0].buffers is None
    assert planned[0].error
    assert time.perf_counter() - began < 20


async def test_a_child_that_takes_too_long_is_ended_and_said_so(tmp_path: Path) -> None:
    slow = write(tmp_path, vocab_size=10**8)
    began = time.perf_counter()
    planned, quantized = await run_dry([Point(slow, GOOD), Point(slow, GOOD)], ["Q4_0"], timeout_s=1)
    assert time.perf_counter() - began < 10
    assert [result.error for result in planned] == ["llama.cpp did not answer within 1 s"] * 2
    assert quantized[0].error == "llama.cpp did not answer within 1 s"


async def test_a_child_that_says_nothing_sensible_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instead(tmp_path, monkeypatch, "print('nonsense', flush=True); os._exit(0)")
    planned, _ = await run_dry([Point(ModelSettings("any"), GOOD)])
    assert planned[0].error == "llama.cpp ended its process over this"


async def test_quantizations_give_the_type_of_each_tensor(tmp_path: Path) -> None:
    path = stand_in(smollm2_path(), tmp_path).path
    _, quantized = await run_dry([Point.of_file(path)], ["F32", "F16", "Q8_0", "Q4_K_M", "IQ2_XXS", "Q9_9"])
    full, half, eight, four, two, none = quantized
    assert set((full.tensor_types or {}).values()) == {"F32"}
    assert set((half.tensor_types or {}).values()) == {"F16", "F32"}
    assert set((eight.tensor_types or {}).values()) == {"Q8_0", "F32"}
    types = four.tensor_types or {}
    assert types["blk.0.attn_q.weight"] == "Q5_0", "rows of 576 cannot be Q4_K"
    assert types["token_embd.weight"] == "Q8_0"
    assert types["blk.0.ffn_down.weight"] in ("Q4_K", "Q6_K")
    assert four.needs_matrix is False
    assert two.needs_matrix is True
    assert none.error == "llama.cpp makes no Q9_9"


async def test_a_quantization_that_is_refused_says_why(tmp_path: Path) -> None:
    path = stand_in(smollm2_path(), tmp_path).path
    _, (refused, made) = await run_dry([Point.of_file(path)], ["Q1_0", "Q4_0"])
    assert "no tensor type fallback" in (refused.error or "")
    assert made.tensor_types
