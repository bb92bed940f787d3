"""What a token reads: counted by hand from the widths of models whose headers are made here."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.support.model_headers import MIXTURE, SMALL, Transformer, half, q4_0
from tests.unit.fit import headers as shapes

from lilliput.errors import BadFile
from lilliput.fit import Traffic, scale_traffic, traffic_of
from lilliput.fit.traffic import elements_of
from lilliput.gguf import GgmlType, Header, Tensor, place_tensors

WIDTH, CACHED, INNER, VOCABULARY, BLOCKS = 256, 128, 512, 1024, 4
ATTENTION = 2 * WIDTH * WIDTH + 2 * WIDTH * CACHED
FEED_FORWARD = 3 * WIDTH * INNER
OUTPUT = WIDTH * VOCABULARY


def added(header: Header, *more: tuple[str, tuple[int, ...]]) -> Header:
    """The header with more tensors in half precision."""
    return replace(
        header,
        tensors=header.tensors + tuple(Tensor(name, shape, GgmlType.F16, 0) for name, shape in more),
    )


def total(traffic: Traffic) -> int:
    return sum(traffic.weight_bytes.values())


def test_a_dense_model_reads_every_matrix_once_and_no_embedding() -> None:
    traffic = traffic_of(SMALL.header(half))
    assert traffic.weight_bytes == {"F16": 2 * (BLOCKS * (ATTENTION + FEED_FORWARD) + OUTPUT)}
    assert traffic.weight_elements == BLOCKS * (ATTENTION + FEED_FORWARD) + OUTPUT
    assert [dict(layer.dense) for layer in traffic.layers] == [{"F16": 2 * (ATTENTION + FEED_FORWARD)}] * BLOCKS
    assert traffic.output == {"F16": 2 * OUTPUT}
    assert traffic.expert_bytes == {}
    assert traffic.vocab_size == VOCABULARY
    assert not traffic.guessed


def test_a_tied_model_reads_its_embedding_as_the_output_matrix() -> None:
    tied, untied = (traffic_of(replace(SMALL, tied=tied).header(half)) for tied in (True, False))
    assert tied.weight_bytes == untied.weight_bytes
    assert tied.output == {"F16": 2 * OUTPUT}
    assert untied.stored_bytes - tied.stored_bytes == 2 * OUTPUT


def test_bytes_are_told_by_type() -> None:
    traffic = traffic_of(SMALL.header(q4_0))
    blocks = BLOCKS * (ATTENTION + FEED_FORWARD)
    assert traffic.weight_bytes == {"Q4_0": blocks * 18 // 32, "Q6_K": OUTPUT * 210 // 256}
    assert traffic.weight_elements == blocks + OUTPUT


def test_what_is_stored_is_all_of_the_tensors() -> None:
    header = SMALL.header(half)
    assert traffic_of(header).stored_bytes == sum(tensor.size_bytes for tensor in header.tensors)


def test_of_some_tensors_only_a_row_is_read() -> None:
    plain = SMALL.header(half)
    more = added(plain, ("per_layer_token_embd.weight", (256, 1024)), ("position_embd.weight", (256, 8192)))
    assert traffic_of(more).weight_bytes == traffic_of(plain).weight_bytes
    read = added(plain, ("per_layer_model_proj.weight", (256, 1024)))
    assert total(traffic_of(read)) - total(traffic_of(plain)) == 2 * 256 * 1024


def test_layers_for_multi_token_prediction_are_not_read() -> None:
    header = SMALL.header(half)
    shorter = replace(header, metadata={**header.metadata, "llama.nextn_predict_layers": 1})
    assert len(traffic_of(shorter).layers) == BLOCKS - 1
    assert total(traffic_of(header)) - total(traffic_of(shorter)) == 2 * (ATTENTION + FEED_FORWARD)


def test_experts_count_by_how_many_are_used() -> None:
    traffic = traffic_of(MIXTURE.header(half))
    router = 4 * WIDTH * 8
    assert traffic.expert_bytes == {"F16": 2 * BLOCKS * FEED_FORWARD * 2}  # 2 of 8
    assert traffic.layers[0].dense == {"F16": 2 * ATTENTION, "F32": router}
    every = traffic_of(replace(MIXTURE, used_experts=8).header(half))
    assert every.expert_bytes == {"F16": 4 * traffic.expert_bytes["F16"]}
    assert every.stored_bytes == traffic.stored_bytes


def test_shared_experts_are_always_read_and_grouped_ones_by_use() -> None:
    plain = MIXTURE.header(half)
    before = traffic_of(plain)
    shared = traffic_of(added(plain, ("blk.1.ffn_up_shexp.weight", (256, 512))))
    assert shared.expert_bytes == before.expert_bytes
    assert total(shared) - total(before) == 2 * 256 * 512
    grouped = traffic_of(added(plain, ("blk.1.ffn_up_chexps.weight", (256, 64, 8))))
    assert grouped.expert_bytes["F16"] - before.expert_bytes["F16"] == 2 * 256 * 64 * 2


def test_a_model_that_does_not_say_how_many_experts_are_used_uses_all() -> None:
    header = MIXTURE.header(half)
    silent = {key: value for key, value in header.metadata.items() if not key.endswith("expert_used_count")}
    traffic = traffic_of(replace(header, metadata=silent))
    assert traffic.expert_bytes == {"F16": 2 * BLOCKS * FEED_FORWARD * 8}


def test_shards_are_read_as_one_file() -> None:
    header = SMALL.header(half)
    first, rest = (replace(header, tensors=part) for part in (header.tensors[:9], header.tensors[9:]))
    assert traffic_of(first, (rest,)) == traffic_of(header)


def test_a_file_that_is_no_language_model_is_refused() -> None:
    with pytest.raises(BadFile, match="no layers"):
        traffic_of(shapes.header("clip", embedding_length=64))


def test_cache_bytes_grow_with_depth_and_type() -> None:
    traffic = traffic_of(shapes.LLAMA_8B)
    a_token = 32 * 2 * 8 * 128
    assert traffic.kv_bytes(0) == 0
    assert traffic.kv_bytes(1000) == 1000 * a_token * 2
    assert traffic.kv_bytes(1000, "q8_0") == 1000 * a_token * 34 // 32
    assert traffic.attention_elements(1000) == 1000 * 32 * 2 * 4096  # every query head reads keys and values
    assert traffic.prompt_attention_elements(1000) == 1000 * 1001 // 2 * 32 * 2 * 4096


def test_a_sliding_window_bounds_what_is_read() -> None:
    traffic = traffic_of(shapes.GEMMA3_270M)  # 18 layers: every sixth has full attention
    a_cell = 2 * 256 * 2
    assert [layer.cells(2000) for layer in traffic.layers[:6]] == [512] * 5 + [2000]
    assert traffic.kv_bytes(300) == 18 * 300 * a_cell
    assert traffic.kv_bytes(2000) == (15 * 512 + 3 * 2000) * a_cell
    assert traffic.layers[0].cells_of_prompt(2000) == sum(min(at, 512) for at in range(1, 2001))
    assert traffic.layers[5].cells_of_prompt(2000) == 2000 * 2001 // 2


def test_latent_attention_reads_one_compressed_key_for_all_heads() -> None:
    traffic = traffic_of(shapes.DEEPSEEK_V2_LITE)
    assert traffic.kv_bytes(100) == 27 * 100 * (512 + 64) * 2
    assert traffic.attention_elements(100) == 27 * 100 * 2 * 16 * 576


def test_recurrent_state_is_read_and_written_at_any_depth() -> None:
    traffic = traffic_of(shapes.QWEN35_27B)
    elements = 3 * (6144 + 2 * 16 * 128) + 128 * 6144
    assert sum(layer.cache is None for layer in traffic.layers) == 48
    assert sum(layer.state_bytes for layer in traffic.layers) == 48 * 4 * elements
    assert traffic.kv_bytes(0) == 2 * 48 * 4 * elements
    assert traffic.kv_bytes(100) - traffic.kv_bytes(0) == 16 * 100 * 2 * 4 * 256 * 2


def test_a_recurrent_model_has_no_cache_at_all() -> None:
    state = {"ssm__conv_kernel": 4, "ssm__inner_size": 512, "ssm__state_size": 16}
    traffic = traffic_of(shapes.header("mamba", block_count=3, embedding_length=256, vocab_size=1000, **state))
    elements = 3 * 512 + 16 * 512
    assert [(layer.cache, layer.state_bytes) for layer in traffic.layers] == [(None, 4 * elements)] * 3
    assert traffic.kv_bytes(5000) == traffic.kv_bytes(0) == 2 * 3 * 4 * elements


def test_layers_that_attend_and_recur_do_both() -> None:
    traffic = traffic_of(
        shapes.header(
            "falcon-h1",
            block_count=4,
            embedding_length=256,
            attention__head_count=4,
            attention__head_count_kv=2,
            ssm__conv_kernel=4,
            ssm__inner_size=512,
            ssm__state_size=16,
            ssm__group_count=1,
            vocab_size=1000,
        )
    )
    elements = 3 * (512 + 2 * 16) + 16 * 512
    assert [layer.state_bytes for layer in traffic.layers] == [4 * elements] * 4
    assert all(layer.cache is not None for layer in traffic.layers)


def test_in_hybrids_the_tensors_tell_which_blocks_attend() -> None:
    tensors = place_tensors(
        [
            ("token_embd.weight", (256, 1000), GgmlType.F16),
            ("blk.0.attn_qkv.weight", (256, 768), GgmlType.F16),
            ("blk.0.ssm_conv1d.weight", (4, 512), GgmlType.F16),
            ("blk.1.attn_q.weight", (256, 256), GgmlType.F16),
            ("blk.1.attn_k.weight", (256, 128), GgmlType.F16),
        ]
    )
    keys = {"full_attention_interval": 2, "attention__head_count": 4, "attention__head_count_kv": 2}
    state = {"ssm__conv_kernel": 4, "ssm__inner_size": 512, "ssm__state_size": 16}
    header = shapes.header("qwen35", block_count=2, embedding_length=256, vocab_size=1000, **keys, **state)
    recurrent, attending = traffic_of(replace(header, tensors=tensors)).layers
    assert recurrent.cache is None
    assert recurrent.state_bytes == 4 * (3 * 512 + 16 * 512)
    assert attending.cache is not None
    assert attending.state_bytes == 0


@pytest.mark.parametrize("model", [SMALL, MIXTURE, replace(SMALL, tied=True)])
@pytest.mark.parametrize("border", range(BLOCKS + 1))
def test_parts_of_layers_add_up_to_the_whole(model: Transformer, border: int) -> None:
    whole = traffic_of(model.header(q4_0))
    first, last = whole.part(0, border, output=False), whole.part(border, BLOCKS, output=True)
    assert first.joined(last) == whole
    assert first.vocab_size == 0
    assert total(first) + total(last) == total(whole)
    assert first.kv_bytes(700) + last.kv_bytes(700) == whole.kv_bytes(700)
    assert first.attention_elements(700) + last.attention_elements(700) == whole.attention_elements(700)


def test_experts_apart_from_their_layers_add_up_to_the_whole() -> None:
    whole = traffic_of(MIXTURE.header(q4_0))
    experts = whole.part(0, BLOCKS, output=False, experts=True)
    rest = whole.part(0, BLOCKS, output=True, experts=False)
    assert experts.expert_bytes == whole.expert_bytes
    assert rest.expert_bytes == {}
    assert rest.joined(experts).weight_bytes == whole.weight_bytes
    assert sum(layer.graph for layer in experts.layers + rest.layers) == BLOCKS
    assert (experts.kv_bytes(100), rest.kv_bytes(100)) == (0, whole.kv_bytes(100))


def test_a_dense_layer_leaves_nothing_behind_with_its_experts() -> None:
    whole = traffic_of(SMALL.header(half))
    nothing = whole.part(0, BLOCKS, output=False, experts=True)
    assert (total(nothing), sum(layer.graph for layer in nothing.layers)) == (0, 0)
    assert whole.part(0, BLOCKS, output=True, experts=False) == whole


def test_another_variant_is_scaled_by_its_size_with_the_usual_mix() -> None:
    traffic = traffic_of(SMALL.header(half))
    smaller = scale_traffic(traffic, traffic.stored_bytes // 4, "Q4_K_M")
    assert smaller.guessed
    assert smaller.stored_bytes == traffic.stored_bytes // 4
    assert total(smaller) == pytest.approx(total(traffic) / 4, rel=1e-4)
    assert smaller.weight_bytes["Q4_K"] == pytest.approx(0.73 * total(smaller), rel=1e-3)
    assert smaller.weight_bytes["Q6_K"] == pytest.approx(0.27 * total(smaller), rel=1e-3)
    assert smaller.kv_bytes(100) == traffic.kv_bytes(100)


def test_experts_scale_as_experts() -> None:
    traffic = traffic_of(MIXTURE.header(half))
    smaller = scale_traffic(traffic, traffic.stored_bytes // 2, "Q8_0")
    assert sum(smaller.expert_bytes.values()) == traffic.expert_bytes["F16"] // 2
    assert set(smaller.weight_bytes) == {"Q8_0"}


def test_a_variant_of_an_unknown_name_keeps_the_types() -> None:
    traffic = traffic_of(SMALL.header(q4_0))
    double = scale_traffic(traffic, 2 * traffic.stored_bytes, "never-seen")
    assert double.weight_bytes == {name: 2 * size for name, size in traffic.weight_bytes.items()}
    assert double.guessed


def test_without_tensors_there_is_nothing_to_scale() -> None:
    traffic = traffic_of(shapes.LLAMA_8B)
    assert scale_traffic(traffic, 1000, "Q4_K_M") == traffic


@pytest.mark.parametrize(("name", "elements"), [("F32", 250), ("F16", 500), ("Q4_K", 1000 * 256 / 144)])
def test_numbers_in_so_many_bytes(name: str, elements: float) -> None:
    assert elements_of(name, 1000) == pytest.approx(elements)
