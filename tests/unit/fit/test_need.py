"""Golden rows: what llama.cpp reports for these shapes (its dry run on CPU, and published logs), in MiB."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.unit.fit import headers as shapes

from lilliput.errors import InvalidRequest
from lilliput.fit import KV_TYPES, MemoryNeed, estimate_need, shape_of
from lilliput.gguf import Header
from lilliput.units import MIB


def need(header: Header, context: int, slots: int = 1, *, ubatch: int = 512, kv: str = "f16") -> MemoryNeed:
    return estimate_need(shape_of(header), 0, context, slots, ubatch_tokens=ubatch, kv_type=kv)


@pytest.mark.parametrize(
    ("header", "context", "slots", "kv_type", "kv_mib"),
    [
        pytest.param(shapes.LLAMA_8B, 512, 1, "f16", 64, id="llama-8b"),
        pytest.param(shapes.LLAMA_8B, 8192, 8, "f16", 1024, id="llama-8b-slots-share-one-pool"),
        pytest.param(shapes.LLAMA_8B, 8192, 1, "q8_0", 544, id="llama-8b-q8_0"),
        pytest.param(shapes.LLAMA_70B, 8192, 1, "f16", 2560, id="llama-70b"),
        pytest.param(shapes.LLAMA_70B, 131072, 1, "f16", 40960, id="llama-70b-whole-context"),
        pytest.param(shapes.SMOLLM2_135M, 8192, 1, "f16", 180, id="smollm2"),
        pytest.param(shapes.SMOLLM2_135M, 1000, 1, "f16", 22.5, id="smollm2-rounded-to-1024-cells"),
        pytest.param(shapes.SMOLLM2_135M, 8192, 1, "q8_0", 95.625, id="smollm2-q8_0"),
        pytest.param(shapes.QWEN2_7B, 8192, 4, "f16", 448, id="qwen2-window-in-the-file-is-not-used"),
        pytest.param(shapes.QWEN2_7B, 8192, 1, "q8_0", 238, id="qwen2-q8_0"),
        pytest.param(shapes.QWEN3_30B_A3B, 8192, 4, "f16", 768, id="qwen3-moe"),
        pytest.param(shapes.GEMMA3_270M, 512, 1, "f16", 1.5 + 7.5, id="gemma3-270m-short"),
        pytest.param(shapes.GEMMA3_270M, 8192, 1, "f16", 24 + 15, id="gemma3-270m"),
        pytest.param(shapes.GEMMA3_270M, 8192, 8, "f16", 24 + 67.5, id="gemma3-270m-one-window-a-slot"),
        pytest.param(shapes.GEMMA3_27B, 131072, 1, "f16", 10240 + 624, id="gemma3-27b"),
        pytest.param(shapes.GEMMA3_27B, 8192, 4, "f16", 640 + 1872, id="gemma3-27b-slots"),
        pytest.param(shapes.GEMMA2_9B, 131072, 1, "f16", 21504 + 756, id="gemma2-default-window"),
        pytest.param(shapes.GEMMA2_9B, 8192, 4, "f16", 1344 + 1344, id="gemma2-windows-no-larger-than-the-context"),
        pytest.param(shapes.GEMMA4_12B, 8192, 4, "q8_0", 68 + 765, id="gemma4-heads-and-widths-by-layer"),
        pytest.param(shapes.GPT_OSS_20B, 65536, 1, "f16", 1536 + 18, id="gpt-oss-20b"),
        pytest.param(shapes.GPT_OSS_20B, 65536, 1, "q8_0", 816 + 9.5625, id="gpt-oss-20b-q8_0"),
        pytest.param(shapes.GPT_OSS_120B, 65536, 4, "f16", 2304 + 36, id="gpt-oss-120b"),
        pytest.param(shapes.COHERE2_7B, 131072, 1, "f16", 4096 + 432, id="cohere2"),
        pytest.param(shapes.PHI3_MINI, 8192, 4, "f16", 3072, id="phi3-window-ignored"),
        pytest.param(shapes.DEEPSEEK_V2_LITE, 8192, 4, "f16", 243, id="latent-attention-keeps-one-key"),
        pytest.param(shapes.LFM2_350M, 8192, 4, "f16", 96 + 0.3125, id="hybrid-with-short-convolutions"),
        pytest.param(shapes.QWEN35_27B, 262144, 1, "f16", 16384 + 149.625, id="hybrid-with-state"),
    ],
)
def test_the_cache_is_exact(header: Header, context: int, slots: int, kv_type: str, kv_mib: float) -> None:
    assert need(header, context, slots, kv=kv_type).kv_bytes == kv_mib * MIB


def test_full_size_windows_can_be_asked_for() -> None:
    shape = shape_of(shapes.GEMMA3_270M)
    assert estimate_need(shape, 0, 8192, 1, swa_full=True).kv_bytes == (24 + 120) * MIB


def test_a_smaller_micro_batch_makes_windows_smaller() -> None:
    assert need(shapes.GEMMA3_270M, 8192, ubatch=256).kv_bytes == int((24 + 11.25) * MIB)


@pytest.mark.parametrize(
    ("header", "context", "ubatch", "compute_mib"),
    [
        pytest.param(shapes.LLAMA_8B, 512, 512, 266.50, id="llama-8b"),
        pytest.param(shapes.LLAMA_8B, 131072, 64, 33.31, id="llama-8b-small-micro-batch"),
        pytest.param(shapes.LLAMA_70B, 8192, 512, 282.50, id="llama-70b"),
        pytest.param(shapes.LLAMA_70B, 131072, 512, 360.01, id="llama-70b-mask-of-a-long-context"),
        pytest.param(shapes.LLAMA_70B, 131072, 64, 45.00, id="llama-70b-long-small-micro-batch"),
        pytest.param(shapes.TINY_LLAMA, 8192, 512, 70.50, id="tinyllama"),
        pytest.param(shapes.TINY_LLAMA, 32768, 512, 81.01, id="tinyllama-layer-above-logits"),
        pytest.param(shapes.TINY_LLAMA, 131072, 512, 177.01, id="tinyllama-long"),
        pytest.param(shapes.SMOLLM2_135M, 8192, 512, 98.25, id="smollm2"),
        pytest.param(shapes.GEMMA3_270M, 8192, 512, 514.50, id="gemma3-270m"),
        pytest.param(shapes.GEMMA3_270M, 8192, 256, 257.25, id="gemma3-270m-small-micro-batch"),
        pytest.param(shapes.GEMMA3_27B, 131072, 512, 533.00, id="gemma3-27b"),
        pytest.param(shapes.GEMMA2_9B, 8192, 512, 514.00, id="gemma2"),
        pytest.param(shapes.COHERE2_7B, 131072, 512, 516.00, id="cohere2"),
        pytest.param(shapes.QWEN2_7B, 8192, 512, 311.00, id="qwen2"),
        pytest.param(shapes.QWEN3_30B_A3B, 131072, 512, 304.75, id="qwen3-moe"),
        pytest.param(shapes.DEEPSEEK_V2_LITE, 8192, 512, 240.26, id="latent-attention"),
        pytest.param(shapes.LFM2_350M, 8192, 512, 132.00, id="lfm2"),
    ],
)
def test_the_compute_buffer_is_within_a_third_of_a_mebibyte(
    header: Header, context: int, ubatch: int, compute_mib: float
) -> None:
    assert need(header, context, ubatch=ubatch).compute_bytes / MIB == pytest.approx(compute_mib, abs=0.3)


@pytest.mark.parametrize(
    ("header", "context", "compute_mib"),
    [
        pytest.param(shapes.PHI3_MINI, 8192, 82.64, id="phi3"),
        pytest.param(shapes.GPT_OSS_20B, 65536, 409.63, id="gpt-oss"),
        pytest.param(shapes.LFM2_350M, 131072, 161.02, id="lfm2-long"),
    ],
)
def test_the_compute_buffer_of_unusual_layers_is_close(header: Header, context: int, compute_mib: float) -> None:
    assert need(header, context).compute_bytes / MIB == pytest.approx(compute_mib, rel=0.04)


@pytest.mark.parametrize(
    ("header", "context", "compute_mib"),
    [
        pytest.param(shapes.LLAMA_8B, 512, 266.50, id="logits-dominate"),
        pytest.param(shapes.LLAMA_8B, 8192, 572.01, id="llama-8b"),
        pytest.param(shapes.LLAMA_8B, 32768, 2156.01, id="llama-8b-long"),
        pytest.param(shapes.LLAMA_70B, 32768, 4244.01, id="llama-70b"),
        pytest.param(shapes.QWEN2_7B, 8192, 501.01, id="qwen2"),
        pytest.param(shapes.QWEN3_30B_A3B, 8192, 558.01, id="qwen3-moe"),
    ],
)
def test_without_flash_attention_every_head_keeps_its_scores(header: Header, context: int, compute_mib: float) -> None:
    measured = estimate_need(shape_of(header), 0, context, 1, flash_attention=False).compute_bytes / MIB
    assert measured == pytest.approx(compute_mib, abs=0.1)


def test_a_quantized_cache_costs_one_more_row_of_scratch() -> None:
    assert need(shapes.LLAMA_8B, 8192, kv="q8_0").compute_bytes == 274.5 * MIB


def test_the_output_rows_of_all_slots_are_overhead() -> None:
    one, eight = need(shapes.LLAMA_8B, 8192, 1), need(shapes.LLAMA_8B, 8192, 8)
    assert eight.overhead_bytes - one.overhead_bytes == 7 * 128256 * 4


def test_the_total_is_the_sum_of_the_parts() -> None:
    assert MemoryNeed(1, 20, 300, 4000).total_bytes == 4321


def test_a_process_shows_idle_originals_beside_what_is_needed() -> None:
    need = MemoryNeed(1, 20, 300, 4000, copied_bytes=1, idle_bytes=50_000)
    assert (need.total_bytes, need.resident_bytes) == (4321, 54_321)
    assert estimate_need(shape_of(shapes.LLAMA_8B), 10**9, 512, 1).weights_bytes == 10**9


@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_every_cache_type_is_known_in_either_letter_case(kv_type: str) -> None:
    assert need(shapes.LLAMA_8B, 512, kv=kv_type) == need(shapes.LLAMA_8B, 512, kv=kv_type.upper())


def test_an_unknown_cache_type_is_named() -> None:
    with pytest.raises(InvalidRequest, match="'q9_9' is no type for a KV cache"):
        need(shapes.LLAMA_8B, 512, kv="q9_9")


def test_a_model_without_attention_needs_state_only() -> None:
    shape = replace(shape_of(shapes.LLAMA_8B), layers=(), recurrent_bytes=1000)
    assert estimate_need(shape, 0, 8192, 4).kv_bytes == 4000
    assert estimate_need(shape, 0, 131072, 4).compute_bytes == estimate_need(shape, 0, 512, 4).compute_bytes


def test_what_is_not_mapped_lies_in_anonymous_memory() -> None:
    assert MemoryNeed(100, 1, 2, 3, 60, 50).unmapped() == MemoryNeed(100, 1, 2, 3, 100)


def test_idle_originals_count_where_they_are_locked_in_memory() -> None:
    assert MemoryNeed(100, 1, 2, 3, 60, 50).locked() == MemoryNeed(150, 1, 2, 3, 60)
