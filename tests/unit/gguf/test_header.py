from __future__ import annotations

import pytest

from lilliput.gguf import GgmlType, Header, MetadataValue, Skipped, Tensor


def header(*tensors: Tensor, **metadata: MetadataValue) -> Header:
    """A header of architecture ``a``; ``__`` in a keyword stands for a dot."""
    values: dict[str, MetadataValue] = {"general.architecture": "a"}
    values.update({key.replace("__", "."): value for key, value in metadata.items()})
    return Header(3, values, tensors, 32, 0)


def test_what_the_file_does_not_say_is_none() -> None:
    empty = Header(3, {}, (), 32, 24)
    silent = [
        name
        for name in dir(Header)
        if not name.startswith("_") and name not in ("weights_bytes", "shard_count", "tensor_types")
    ]
    for name in silent:
        if name not in ("version", "metadata", "tensors", "alignment", "data_offset_bytes", "types"):
            assert getattr(empty, name) is None, name
    assert (empty.weights_bytes, empty.shard_count, empty.tensor_types) == (0, 1, frozenset())


@pytest.mark.parametrize("value", ["12", -1, 1 << 63, 1.5, True, (1, 2), Skipped("int32", 9, 0)])
def test_a_number_of_the_wrong_kind_counts_as_absent(value: MetadataValue) -> None:
    assert header(a__context_length=value).context_length is None


@pytest.mark.parametrize("value", [3, "", (), 0.5])
def test_a_text_of_the_wrong_kind_counts_as_absent(value: MetadataValue) -> None:
    assert header(general__name=value, tokenizer__chat_template=value).name is None


def test_key_value_heads_are_per_layer() -> None:
    assert header(a__block_count=3, a__attention__head_count_kv=8).head_count_kv == (8, 8, 8)
    assert header(a__block_count=3, a__attention__head_count_kv=(0, 2, 0)).head_count_kv == (0, 2, 0)
    assert header(a__block_count=2, a__attention__head_count=32).head_count_kv == (32, 32)
    assert header(a__block_count=2, a__attention__head_count=(4, 8)).head_count == 8
    assert header(a__block_count=2, a__attention__head_count_kv=("x", 2)).head_count_kv is None


def test_an_absurd_block_count_costs_nothing() -> None:
    absurd = header(a__block_count=2**32 - 1, a__attention__head_count=1, a__attention__head_count_kv=1)
    assert absurd.block_count is None
    assert header(a__block_count=65_536).block_count is None
    assert absurd.head_count_kv is None
    assert absurd.head_count == 1


def test_head_widths_have_the_engine_s_default() -> None:
    plain = header(a__embedding_length=4096, a__attention__head_count=32)
    assert (plain.key_length, plain.value_length) == (128, 128)
    said = header(a__embedding_length=4096, a__attention__head_count=32, a__attention__key_length=192)
    assert (said.key_length, said.value_length) == (192, 128)
    assert header(a__embedding_length=4096, a__attention__head_count=0).key_length is None


def test_the_vocabulary_is_counted_kept_or_skipped() -> None:
    assert header(tokenizer__ggml__tokens=("a", "b")).vocab_size == 2
    assert header(tokenizer__ggml__tokens=Skipped("string", 150_000, 0)).vocab_size == 150_000
    assert header(a__vocab_size=7).vocab_size == 7


def test_quantization_is_what_the_file_says_or_what_most_bytes_are() -> None:
    big = Tensor("big", (256, 100), GgmlType.Q6_K, 0)
    small = Tensor("small", (256,), GgmlType.F32, 21_024)
    assert header(big, small, general__file_type=17).quantization == "Q5_K_M"
    assert header(big, small, general__file_type=1024 + 15).quantization == "Q4_K_M"
    assert header(big, small, general__file_type=999).quantization == "Q6_K"
    assert header(big, small).quantization == "Q6_K"
    assert header(big, small).tensor_types == {"Q6_K", "F32"}


def test_sizes_are_exact() -> None:
    tensor = Tensor("t", (256, 3, 2), GgmlType.Q4_K, 0)
    assert (tensor.element_count, tensor.size_bytes) == (1536, 6 * 144)
    assert Tensor("scalar", (), GgmlType.F32, 0).size_bytes == 4
    whole = header(tensor, Tensor("u", (32,), GgmlType.Q8_0, 864))
    assert (whole.parameter_count, whole.weights_bytes) == (1568, 864 + 34)


def test_a_shard_does_not_pass_its_tensors_off_as_the_model() -> None:
    tensor = Tensor("t", (32,), GgmlType.F32, 0)
    assert header(tensor, split__count=3).parameter_count is None
    assert header(tensor, split__count=3, general__parameter_count=70_000).parameter_count == 70_000
    assert header(tensor, split__count=3).shard_count == 3
