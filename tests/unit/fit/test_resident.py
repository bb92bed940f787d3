from __future__ import annotations

import pytest

from lilliput.fit.resident import (
    NO_COPIES,
    NO_REPACKING,
    HeldWeights,
    Repacking,
    copies_of,
    hold_weights,
    overhead_bytes,
    process_bytes,
    tokenizer_bytes,
)
from lilliput.gguf import GgmlType, Header, MetadataValue, Skipped, Tensor, place_tensors
from lilliput.units import MIB

ANSWER = {
    "types": {
        "Q4_0": {"buffer": "CPU_REPACK", "rows": 8, "ratio": 1.0},
        "Q8_0": {"buffer": "AMX", "rows": 16, "ratio": 1.5},
    },
    "experts": True,
    "tied_output": True,
}
REPACKING = Repacking.from_mapping(ANSWER)
Q4, Q8, F32 = GgmlType.Q4_0, GgmlType.Q8_0, GgmlType.F32


def tensors(*described: tuple[str, tuple[int, ...], GgmlType]) -> tuple[Tensor, ...]:
    return place_tensors(described)


def whole(*placed: Tensor) -> int:
    return sum(tensor.size_bytes for tensor in placed)


def test_without_copies_the_file_is_all_there_is() -> None:
    model = tensors(("token_embd.weight", (256, 64), Q4), ("blk.0.ffn_up.weight", (256, 64), Q4))
    assert hold_weights([model]) == HeldWeights(whole(*model), 0, whole(*model))


def test_a_copied_matrix_between_others_stays_mapped_and_is_used_once() -> None:
    model = tensors(
        ("token_embd.weight", (256, 64), Q4),
        ("blk.0.ffn_up.weight", (256, 64), Q4),
        ("output_norm.weight", (256,), F32),
        ("output.weight", (256, 64), Q4),
    )
    embedding, matrix, norm, output = model
    held = hold_weights([model], REPACKING)
    assert held.copied_bytes == whole(matrix, output)
    assert held.mapped_bytes == whole(embedding, matrix, norm), "the end of the file is let go"
    assert held.used_bytes == whole(*model)


@pytest.mark.parametrize(
    ("shape", "kind", "factor"),
    [
        pytest.param((256, 64), Q4, 1.0, id="matrix"),
        pytest.param((256, 60), Q4, 0.0, id="rows-that-do-not-divide"),
        pytest.param((256, 64, 4), Q4, 1.0, id="experts"),
        pytest.param((256,), Q4, 0.0, id="no-matrix"),
        pytest.param((256, 64), GgmlType.Q6_K, 0.0, id="type-that-stays"),
        pytest.param((256, 64), Q8, 1.5, id="copy-of-another-size"),
        pytest.param((256, 8), Q8, 0.0, id="other-rows-for-other-types"),
    ],
)
def test_what_is_copied(shape: tuple[int, ...], kind: GgmlType, factor: float) -> None:
    (tensor,) = tensors(("blk.0.ffn_up.weight", shape, kind))
    assert REPACKING.copy_bytes(tensor) == factor * tensor.size_bytes
    assert NO_REPACKING.copy_bytes(tensor) == 0


def test_experts_are_copied_only_where_the_build_does() -> None:
    (tensor,) = tensors(("blk.0.ffn_up_exps.weight", (256, 64, 4), Q4))
    assert Repacking.from_mapping(ANSWER | {"experts": False}).copy_bytes(tensor) == 0


def test_an_embedding_that_is_the_output_too_is_held_twice_and_used_twice() -> None:
    model = tensors(("token_embd.weight", (256, 64), Q4), ("output_norm.weight", (256,), F32))
    embedding, norm = model
    held = hold_weights([model], REPACKING)
    assert held == HeldWeights(whole(embedding, norm), whole(embedding), whole(embedding, norm) + whole(embedding))
    kept = Repacking.from_mapping(ANSWER | {"tied_output": False})
    assert hold_weights([model], kept).copied_bytes == 0


def test_an_output_in_another_part_unties_the_embedding() -> None:
    parts = [tensors(("token_embd.weight", (256, 64), Q4)), tensors(("output.weight", (256, 64), Q4))]
    held = hold_weights(parts, REPACKING)
    assert held.mapped_bytes == held.copied_bytes == whole(*parts[0])


@pytest.mark.parametrize(
    ("tokens", "merges", "measured_mib"),
    [(49_152, 48_900, 17.02), (152_064, 151_387, 45.60), (262_144, 0, 40.58)],
    ids=["smollm2", "qwen2", "gemma3"],
)
def test_vocabularies_take_what_was_measured(tokens: int, merges: int, measured_mib: float) -> None:
    assert tokenizer_bytes(tokens, merges) / MIB == pytest.approx(measured_mib, rel=0.02)


def header(metadata: dict[str, MetadataValue], *described: tuple[str, tuple[int, ...], GgmlType]) -> Header:
    return Header(3, {"general.architecture": "llama"} | metadata, tensors(*described), 32, 0)


def test_the_overhead_counts_the_vocabulary_as_the_file_has_it() -> None:
    merges = header(
        {"tokenizer.ggml.tokens": Skipped("string", 1000, 0), "tokenizer.ggml.merges": Skipped("string", 900, 0)}
    )
    plain = header({"tokenizer.ggml.tokens": ("a",) * 1000})
    assert overhead_bytes(merges) == process_bytes(0) + tokenizer_bytes(1000, 900)
    assert overhead_bytes(plain) == process_bytes(0) + tokenizer_bytes(1000, 0)


def test_the_overhead_counts_the_activations_of_the_widest_matrix() -> None:
    plain = header({}, ("blk.0.ffn_down.weight", (1024, 64), GgmlType.F16))
    packed = header({}, ("blk.0.ffn_down.weight", (1024, 64), Q8))
    experts = header({"llama.expert_used_count": 2}, ("blk.0.ffn_down_exps.weight", (1024, 64, 4), Q8))
    base = process_bytes(1) + tokenizer_bytes(0, 0)
    assert overhead_bytes(plain, ubatch_tokens=512) - base == 2 * 1024 * 512
    assert overhead_bytes(packed) - base == pytest.approx(1.14 * 1024 * 512, abs=1)
    assert overhead_bytes(experts) - base == pytest.approx(2 * 1.14 * 1024 * 512, abs=1)


def test_copies_add_what_the_file_has_not_and_leave_originals_idle() -> None:
    model = tensors(
        ("token_embd.weight", (256, 64), Q4),
        ("blk.0.ffn_up.weight", (256, 64), Q4),
        ("blk.0.ffn_down.weight", (64, 64), Q8),
        ("output_norm.weight", (256,), F32),
    )
    embedding, matrix, larger, _ = model
    copies = copies_of([model], REPACKING)
    assert copies.copied_bytes == whole(embedding, matrix) + 1.5 * whole(larger)
    assert copies.added_bytes == whole(embedding) + 0.5 * whole(larger)
    assert copies.idle_bytes == whole(matrix, larger)


def test_nothing_is_added_where_nothing_is_copied() -> None:
    model = tensors(("token_embd.weight", (256, 64), Q4), ("output.weight", (256, 64), GgmlType.Q6_K))
    assert copies_of([model], REPACKING) == copies_of([model], NO_REPACKING) == NO_COPIES


def test_repackings_are_told_apart_as_keys() -> None:
    other = Repacking.from_mapping(ANSWER | {"types": {"Q4_0": {"rows": 4, "ratio": 1.0}}})
    assert {REPACKING: 1, other: 2, NO_REPACKING: 3}[Repacking.from_mapping(ANSWER)] == 1
