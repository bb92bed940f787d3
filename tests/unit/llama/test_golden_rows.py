"""Published and measured figures of well-known models, reproduced by dry runs over headers of their shapes."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from tests.support import shapes
from tests.support.shapes import ShapeFile

from lilliput.fit import ESTIMATE_MARGIN, estimate_need, shape_of
from lilliput.gguf import FileSource, GgmlType, Header, read_header
from lilliput.llama import Buffers, ContextSettings, ModelSettings, Point, run_dry
from lilliput.units import MIB

ROUNDING_BYTES = 0.011 * MIB
"""llama.cpp's log rounds to 0.01 MiB."""


async def dry(shape: ShapeFile, directory: Path, *contexts: ContextSettings) -> list[Buffers]:
    model = ModelSettings(str(shape.write(directory / "model.gguf")), gpu_layers=0)
    planned, _ = await run_dry([Point(model, context) for context in contexts], timeout_s=120)
    answers = [result.buffers for result in planned if result.buffers is not None]
    assert len(answers) == len(contexts), [result.error for result in planned]
    return answers


def header_of(shape: ShapeFile, directory: Path) -> Header:
    with FileSource(shape.write(directory / "model.gguf")) as source:
        return read_header(source)


@pytest.mark.parametrize(
    ("shape", "context", "cache_mib"),
    [
        pytest.param(shapes.LLAMA_8B, ContextSettings(512, 1), {"attention": 64}, id="llama3-8b"),
        pytest.param(shapes.LLAMA_70B, ContextSettings(8192, 1), {"attention": 2560}, id="llama3.1-70b"),
        pytest.param(shapes.QWEN2_7B, ContextSettings(8192, 1, kv_type="q8_0"), {"attention": 238}, id="qwen2.5-7b"),
        pytest.param(
            shapes.GPT_OSS_120B, ContextSettings(65536, 4), {"attention": 2304, "window": 36}, id="gpt-oss-120b"
        ),
        pytest.param(
            shapes.GEMMA4_12B,
            ContextSettings(8192, 4, kv_type="q8_0"),
            {"attention": 68, "window": 765},
            id="gemma4-12b",
        ),
        pytest.param(
            shapes.QWEN35_27B, ContextSettings(262144, 1), {"attention": 16384, "recurrent": 149.62}, id="qwen3.6-27b"
        ),
        pytest.param(
            shapes.QWEN35_9B, ContextSettings(135168, 4), {"attention": 4224, "recurrent": 201}, id="qwen3.5-9b"
        ),
        pytest.param(shapes.QWEN3_06B, ContextSettings(40960, 1), {"attention": 4480}, id="qwen3-0.6b"),
        pytest.param(shapes.DEEPSEEK_V3, ContextSettings(163840, 1), {"attention": 10980}, id="deepseek-v3.1"),
        pytest.param(
            shapes.GEMMA3_27B, ContextSettings(131072, 1), {"attention": 10240, "window": 624}, id="gemma3-27b"
        ),
        pytest.param(shapes.QWEN3_30B_A3B, ContextSettings(8192, 4), {"attention": 768}, id="qwen3-30b-a3b"),
    ],
)
async def test_caches_are_those_that_were_measured(
    tmp_path: Path, shape: ShapeFile, context: ContextSettings, cache_mib: dict[str, float]
) -> None:
    (buffers,) = await dry(shape, tmp_path, context)
    found = {cache.kind: cache.size_bytes for cache in buffers.caches}
    assert set(found) == set(cache_mib)
    for kind, size in found.items():
        assert size == pytest.approx(cache_mib[kind] * MIB, abs=ROUNDING_BYTES)


async def test_the_output_rows_of_llama3_8b_are_those_that_were_measured(tmp_path: Path) -> None:
    context = ContextSettings(512, 1, flash_attention=False)
    (buffers,) = await dry(shapes.LLAMA_8B, tmp_path, context)
    assert sum(buffers.output.values()) == pytest.approx(0.49 * MIB, abs=ROUNDING_BYTES)
    # Published for an accelerator: 258.50 MiB there, 9.01 on the host. The CPU alone has one buffer near their sum.
    assert sum(buffers.compute.values()) == pytest.approx((258.5 + 9.01) * MIB, rel=0.01)


@pytest.mark.parametrize(
    ("shape", "input_mib", "rest_mib"),
    [
        pytest.param(shapes.LLAMA_8B, 281.81, 4403.49, id="llama3-8b"),
        pytest.param(shapes.LLAMA_70B, 563.62, 20038.81 + 19940.67, id="llama3.1-70b-on-two-devices"),
    ],
)
async def test_weights_of_a_planned_quantization_are_those_of_the_published_file(
    tmp_path: Path, shape: ShapeFile, input_mib: float, rest_mib: float
) -> None:
    header = header_of(shape, tmp_path)
    _, (result,) = await run_dry([Point.of_file(str(tmp_path / "model.gguf"))], ["Q4_K_M"])
    types = result.tensor_types or {}
    sizes = {one.name: one.element_count * GgmlType[types[one.name]].bits_per_element / 8 for one in header.tensors}
    embedding = sizes.pop("token_embd.weight")
    assert embedding == pytest.approx(input_mib * MIB, abs=ROUNDING_BYTES)
    assert sum(sizes.values()) == pytest.approx(rest_mib * MIB, abs=3 * ROUNDING_BYTES)


PUBLISHED_70B_GB = {
    "Q2_K": 26.4,
    "Q3_K_S": 30.91,
    "Q3_K_M": 34.27,
    "Q3_K_L": 37.14,
    "Q4_K_S": 40.35,
    "Q4_K_M": 42.52,
    "Q5_K_M": 49.95,
    "Q6_K": 57.89,
    "Q8_0": 74.98,
}
"""Sizes of bartowski's files of Llama 3.1 70B as its page rounds them: to 10 MB, the first to 100 MB."""

VOCABULARY_BYTES = 8_000_000
"""The header of a file with this vocabulary, which the planned tensors do not have."""


async def test_sizes_of_a_70b_are_those_of_the_published_files(tmp_path: Path) -> None:
    header = header_of(shapes.LLAMA_70B, tmp_path)
    _, made = await run_dry([Point.of_file(str(tmp_path / "model.gguf"))], list(PUBLISHED_70B_GB))
    for result in made:
        assert result.quantization is not None
        types = result.tensor_types or {}
        weights = sum(
            one.element_count // GgmlType[types[one.name]].block_elements * GgmlType[types[one.name]].block_bytes
            for one in header.tensors
        )
        published = PUBLISHED_70B_GB[result.quantization] * 1e9
        rounding = 0.05e9 if result.quantization == "Q2_K" else 0.005e9
        assert abs(weights + VOCABULARY_BYTES - published) <= max(0.0005 * published, rounding), result.quantization


SHAPES = {name: shape for name, shape in vars(shapes).items() if isinstance(shape, ShapeFile)}
CONTEXTS, SEQUENCES, KV_TYPES = (2048, 8192, 32768, 131072), (1, 9), ("f16", "q8_0", "q4_0")


@pytest.mark.parametrize("name", sorted(SHAPES))
async def test_the_formula_is_within_its_margin_of_the_dry_run(tmp_path: Path, name: str) -> None:
    shape = shape_of(header_of(SHAPES[name], tmp_path))
    contexts = [
        ContextSettings(tokens, sequences, kv_type=kind)
        for tokens, sequences, kind in product(CONTEXTS, SEQUENCES, KV_TYPES)
    ]
    for context, buffers in zip(contexts, await dry(SHAPES[name], tmp_path, *contexts), strict=True):
        need = estimate_need(shape, 0, context.context_tokens, context.max_sequences, kv_type=context.kv_type)
        assert need.kv_bytes == pytest.approx(buffers.cache_bytes, abs=2 * ROUNDING_BYTES), context
        exact = buffers.cache_bytes + sum(buffers.compute.values())
        assert need.kv_bytes + need.compute_bytes == pytest.approx(exact, rel=ESTIMATE_MARGIN), context
