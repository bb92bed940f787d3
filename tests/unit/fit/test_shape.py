from __future__ import annotations

import pytest
from tests.unit.fit import headers as shapes
from tests.unit.fit.headers import header

from lilliput.errors import BadFile
from lilliput.fit import CacheLayer, shape_of
from lilliput.gguf import GgmlType, Header, MetadataValue, Tensor


def windows(architecture: str, blocks: int, **keys: MetadataValue) -> str:
    """One letter a layer: w for a sliding window, F for full attention."""
    shape = shape_of(
        header(
            architecture,
            block_count=blocks,
            embedding_length=64,
            attention__head_count=4,
            vocab_size=100,
            **keys,
        )
    )
    return "".join("F" if layer.window_tokens is None else "w" for layer in shape.layers)


@pytest.mark.parametrize(
    ("architecture", "layers"),
    [
        ("gemma2", "wFwFwFwF"),
        ("gemma3", "wwwwwFww"),
        ("gpt-oss", "wFwFwFwF"),
        ("cohere2", "wwwFwwwF"),
        ("smallthinker", "FwwwFwww"),
        ("phi3", "FFFFFFFF"),
        ("never-seen", "FFFFFFFF"),
    ],
)
def test_each_architecture_has_its_pattern(architecture: str, layers: str) -> None:
    assert windows(architecture, 8, attention__sliding_window=128) == layers


def test_a_pattern_without_a_window_slides_only_where_there_is_a_default() -> None:
    assert windows("gemma3", 6) == "FFFFFF"
    assert windows("gemma2", 4) == "wFwF"


def test_the_pattern_in_the_file_comes_first() -> None:
    assert windows("gemma3", 6, attention__sliding_window=8, attention__sliding_window_pattern=3) == "wwFwwF"
    assert windows("gemma3", 4, attention__sliding_window=8, attention__sliding_window_pattern=0) == "wwww"
    array = (True, False, False)
    assert windows("never-seen", 6, attention__sliding_window=8, attention__sliding_window_pattern=array) == "wFFwFF"


def test_layers_that_read_an_earlier_cache_own_none() -> None:
    assert len(windows("gemma3n", 35, attention__sliding_window=512)) == 20
    assert len(windows("gemma4", 35, attention__shared_kv_layers=15)) == 20


def test_layers_for_multi_token_prediction_own_no_cache() -> None:
    assert len(windows("glm4moe", 47, nextn_predict_layers=1)) == 46


def test_older_conversions_of_latent_attention_cache_whole_keys_and_values() -> None:
    old = header(
        "deepseek2",
        block_count=1,
        embedding_length=5120,
        attention__head_count=128,
        attention__kv_lora_rank=512,
        attention__key_length=192,
        attention__value_length=128,
        vocab_size=102400,
    )
    assert shape_of(old).layers == (CacheLayer(128 * 192, 128 * 128),)
    assert shape_of(shapes.DEEPSEEK_V2_LITE).layers[0] == CacheLayer(576, 0)


@pytest.mark.parametrize(
    ("keys", "state_bytes"),
    [
        ({"ssm__conv_kernel": 4, "ssm__inner_size": 100, "ssm__state_size": 16}, 2 * 4 * (3 * 100 + 1600)),
        ({"wkv__head_size": 64}, 2 * 4 * (2 * 64 + 64 * 64)),
        ({"wkv__head_size": 64, "token_shift_count": 1}, 2 * 4 * (64 + 64 * 64)),
    ],
)
def test_purely_recurrent_models_keep_state_and_no_cache(keys: dict[str, MetadataValue], state_bytes: int) -> None:
    shape = shape_of(header("mamba", block_count=2, embedding_length=64, vocab_size=100, **keys))
    assert (shape.layers, shape.recurrent_bytes) == ((), state_bytes)


def test_a_model_with_both_in_every_layer_counts_both() -> None:
    shape = shape_of(
        header(
            "falcon-h1",
            block_count=3,
            embedding_length=64,
            attention__head_count=4,
            vocab_size=100,
            ssm__conv_kernel=4,
            ssm__inner_size=10,
            ssm__state_size=2,
            ssm__group_count=1,
        )
    )
    assert len(shape.layers) == 3
    assert shape.recurrent_bytes == 3 * 4 * (3 * (10 + 4) + 20)


def test_the_vocabulary_is_taken_from_the_embedding_when_nothing_else_says_it() -> None:
    tensor = Tensor("token_embd.weight", (64, 777), GgmlType.F16, 0)
    bare = header("llama", block_count=1, embedding_length=64, attention__head_count=4)
    assert shape_of(Header(3, bare.metadata, (tensor,), 32, 0)).vocab_size == 777
    with pytest.raises(BadFile, match="vocabulary"):
        shape_of(bare)


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        (Header(3, {}, (), 32, 0), "architecture"),
        (header("clip"), "no layers or no width"),
        (header("llama", block_count=2, embedding_length=64, vocab_size=9), "attention heads"),
        (
            header(
                "llama",
                block_count=4,
                embedding_length=64,
                vocab_size=9,
                attention__head_count=4,
                attention__head_count_kv=(1, 2),
            ),
            "4 layers but attention heads for 2",
        ),
    ],
)
def test_a_file_that_describes_no_model_is_refused_with_its_fault(bad: Header, fault: str) -> None:
    with pytest.raises(BadFile, match=fault):
        shape_of(bad)
