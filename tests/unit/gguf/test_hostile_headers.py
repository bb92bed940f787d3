from __future__ import annotations

import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.gguf import build

from lilliput.errors import BadFile
from lilliput.gguf import BytesSource, HeaderLimits, read_header

HUGE = 2**64 - 1


def fault(data: bytes, limits: HeaderLimits | None = None) -> str:
    """The message of the ``BadFile`` that these bytes must bring."""
    with pytest.raises(BadFile) as caught:
        read_header(BytesSource(data), limits or HeaderLimits(), name="evil.gguf")
    assert caught.value.hint
    assert "(at byte " in caught.value.message
    assert caught.value.message.startswith("evil.gguf is not a sound GGUF file: ")
    return caught.value.message


def with_entry(entry: bytes) -> bytes:
    return build.header([entry])


def with_tensor(*tensors: bytes) -> bytes:
    return build.whole(build.header([], tensors), 1 << 16)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the file ends inside the magic number"),
        (b"GG", "the file ends inside the magic number"),
        (b"<!DOCTYPE html><html>", "it is a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "it is a Git LFS pointer"),
        (b"PK\x03\x04\0\0", "it is a zip archive"),
        (b"lmgg\x01\0\0\0", "it is an old GGML file"),
        (b"\0\0\0\0\0\0", "it begins with b'\\x00\\x00\\x00\\x00'"),
        (build.header(version=1), "version 1 is obsolete"),
        (build.header(version=0), "version 0 is unknown"),
        (build.header(version=4), "version 4 is unknown"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "it is big-endian"),
        (build.header(tensor_count=HUGE), f"it claims {HUGE} tensors"),
        (build.header(metadata_count=HUGE), f"it claims {HUGE} metadata entries"),
        (build.header()[:20], "the file ends inside the counts"),
        (build.header(metadata_count=1), "the file ends inside the key of metadata entry 0"),
        (build.header(tensor_count=1), "the file ends inside the name of tensor 0"),
    ],
)
def test_a_wrong_beginning_is_named(data: bytes, said: str) -> None:
    assert said in fault(data)


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (struct.pack("<Q", HUGE), f"the key of metadata entry 0 has {HUGE} bytes"),
        (build.entry("", build.U8, 1), "the key of metadata entry 0 has 0 bytes"),
        (build.entry(b"\xff\xfe", build.U8, 1), "the key of metadata entry 0 is not UTF-8"),
        (build.entry("k", 13, b"\0" * 8), "the value of 'k' has the unknown type 13"),
        (build.entry("k", build.BOOL, 2), "should be true or false but is the byte 2"),
        (build.array("k", build.BOOL, [1, 3]), "should be true or false but is the byte 3"),
        (build.entry("k", build.STRING, struct.pack("<Q", HUGE)), "the value of 'k' goes past the"),
        (build.entry("k", build.STRING, struct.pack("<Q", 99)), "the file ends inside the value of 'k'"),
        (build.entry("k", build.ARRAY, struct.pack("<IQ", build.ARRAY, 1)), "is an array of arrays"),
        (build.entry("k", build.ARRAY, struct.pack("<IQ", 77, 1)), "an array of the unknown type 77"),
        (build.entry("k", build.ARRAY, struct.pack("<IQ", build.U64, HUGE)), "goes past the"),
        (build.entry("k", build.ARRAY, struct.pack("<IQ", build.U64, 1000)), "the file ends inside"),
        (build.entry("k", build.ARRAY, struct.pack("<IQ", build.STRING, HUGE)), "the file ends inside"),
        (build.entry("k", build.ARRAY, struct.pack("<IQQ", build.STRING, 600, HUGE)), "goes past the"),
        (build.entry("k", build.ARRAY, struct.pack("<IQQ", build.STRING, 600, 2**63)), "goes past the"),
        (build.entry("k", build.ARRAY, struct.pack("<IQQ", build.STRING, 2, HUGE)), "goes past the"),
        (build.entry("general.alignment", build.U32, 0), "general.alignment is 0 but must be a power of two"),
        (build.entry("general.alignment", build.U32, 48), "general.alignment is 48 but must be a power of two"),
        (build.entry("general.alignment", build.STRING, "x"), "general.alignment is 'x' but must be"),
        (build.entry("general.alignment", build.I32, -32), "general.alignment is -32 but must be"),
    ],
)
def test_wrong_metadata_is_named(entry: bytes, said: str) -> None:
    assert said in fault(with_entry(entry))


def test_a_key_that_comes_twice_is_named() -> None:
    twice = [build.entry("a.b", build.U8, 1), build.entry("a.b", build.U8, 2)]
    assert "the key 'a.b' comes twice" in fault(build.header(twice))


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ((build.tensor("t", [32], 0, 0), build.tensor("t", [32], 0, 128)), "the tensor 't' comes twice"),
        ((build.tensor("t" * 513, [32], 0, 0),), "the name of tensor 0 has 513 bytes"),
        ((build.tensor("t", [2] * 5, 0, 0),), "tensor 't' has 5 dimensions"),
        ((build.text("t") + struct.pack("<I", 2**32 - 1),), f"tensor 't' has {2**32 - 1} dimensions"),
        ((build.tensor("t", [0], 0, 0),), "tensor 't' has the impossible shape (0,)"),
        ((build.tensor("t", [2**32, 2**32], 0, 0),), "tensor 't' has the impossible shape"),
        ((build.tensor("t", [HUGE] * 4, 0, 0),), "tensor 't' has the impossible shape"),
        ((build.tensor("t", [100], 2, 0),), "rows of tensor 't', shape (100,), do not divide into blocks of 32"),
        ((build.tensor("t", [], 2, 0),), "do not divide into blocks of 32"),
        ((build.tensor("t", [32], 999, 0),), "tensor 't' has the unknown type 999"),
        ((build.tensor("t", [32], 31, 0),), "tensor 't' has the type Q4_0_4_4 (31), which llama.cpp no longer reads"),
        ((build.tensor("t", [32], 0, 5),), "tensor 't' is at offset 5, not a multiple of 32"),
        ((build.tensor("t", [32], 0, 2**63),), "tensor 't' should end at byte"),
        ((build.tensor("t", [1 << 40], 0, 0),), "tensor 't' should end at byte"),
        ((build.tensor("a", [64], 0, 0), build.tensor("b", [64], 0, 128)), "the tensors 'a' and 'b' overlap"),
    ],
)
def test_wrong_tensors_are_named(tensors: tuple[bytes, ...], said: str) -> None:
    assert said in fault(with_tensor(*tensors))


def test_names_from_the_file_are_shown_short_and_without_control_characters() -> None:
    message = fault(with_entry(build.entry("\x1b[31m\n" + "k" * 5000, 99, b"")))
    assert len(message) < 250
    assert message.isprintable()


def test_counts_have_limits_of_their_own() -> None:
    entries = [build.entry(f"k{index}", build.U8, 1) for index in range(4)]
    assert "it claims 4 metadata entries; at most 3" in fault(build.header(entries), HeaderLimits(metadata_count=3))
    tensors = [build.tensor(f"t{index}", [8], 0, 32 * index) for index in range(4)]
    assert "it claims 4 tensors; at most 3" in fault(build.header([], tensors), HeaderLimits(tensor_count=3))


def test_what_is_kept_has_a_limit_together() -> None:
    entries = [build.entry(f"k{index}", build.STRING, "x" * 900) for index in range(20)]
    assert "take more than 10000 bytes" in fault(build.header(entries), HeaderLimits(kept_bytes=10_000))


def test_a_short_list_of_long_texts_is_refused() -> None:
    data = with_entry(build.array("k", build.STRING, ["x" * 100]))
    assert "has an element of 100 bytes" in fault(data, HeaderLimits(text_bytes=99))


@pytest.mark.parametrize("size_known", [True, False])
def test_no_more_than_the_cap_is_ever_read(size_known: bool) -> None:
    entries = [build.array(f"k{index}", build.STRING, ["y" * 1000] * 600) for index in range(8)]
    data = build.header(entries)
    cap = 2_000_000
    source = build.Recorder(data, size_bytes=len(data) if size_known else None)
    with pytest.raises(BadFile, match="goes past the 2000000 bytes that a header may have"):
        read_header(source, HeaderLimits(header_bytes=cap))
    assert source.total_bytes <= cap
    assert max(offset + size for offset, size in source.reads) <= cap


def test_an_endless_source_costs_bounded_memory() -> None:
    class Endless:
        size_bytes = None
        total = 0

        def read(self, offset: int, size: int) -> bytes:
            self.total += size
            if offset == 0:
                start = build.header([build.text("k") + struct.pack("<IIQ", build.ARRAY, build.STRING, 2**60)])
                return start + bytes(size - len(start))
            return bytes(size)

    source = Endless()
    tracemalloc.start()
    try:
        with pytest.raises(BadFile, match="goes past"):
            read_header(source, HeaderLimits(header_bytes=10 << 20))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert source.total <= 10 << 20
    assert peak < 14 << 20


def test_a_source_that_answers_short_or_long_does_no_harm() -> None:
    data = build.header([build.entry("k", build.STRING, "x" * 100)])

    class Short(build.Recorder):
        def read(self, offset: int, size: int) -> bytes:
            return super().read(offset, size)[:-50]

    class Long(build.Recorder):
        def read(self, offset: int, size: int) -> bytes:
            return super().read(offset, size) + b"more than was asked for"

    with pytest.raises(BadFile, match="ends inside"):
        read_header(Short(data, size_bytes=len(data)))
    assert read_header(Long(data, size_bytes=len(data))).metadata["k"] == "x" * 100


def sound() -> bytes:
    """A small header with one of everything."""
    words = [f"word{index}" for index in range(520)]
    return build.whole(
        build.header(
            [
                build.entry("general.architecture", build.STRING, "llama"),
                build.entry("general.alignment", build.U32, 32),
                build.entry("llama.block_count", build.U32, 2),
                build.entry("llama.attention.head_count", build.U64, 4),
                build.array("llama.attention.head_count_kv", build.I32, [2, 1]),
                build.entry("general.file_type", build.U32, 15),
                build.entry("flag", build.BOOL, 1),
                build.entry("ratio", build.F64, 0.5),
                build.array("tokenizer.ggml.tokens", build.STRING, words),
                build.array("tokenizer.ggml.token_type", build.I32, [1] * 520),
                build.array("general.tags", build.STRING, ["a", "bc"]),
            ],
            [build.tensor("a.weight", [256, 2], 12, 0), build.tensor("b.weight", [32], 0, 288)],
        ),
        416,
    )


SOUND = sound()
LIMITS = HeaderLimits(header_bytes=1 << 16)


def check_bounded(data: bytes, *, size_known: bool) -> None:
    """Reading ends in a header or a ``BadFile``, within the cap; then every property answers."""
    source = build.Recorder(data, size_bytes=len(data) if size_known else None)
    try:
        header = read_header(source, LIMITS)
    except BadFile:
        pass
    else:
        for name in dir(type(header)):
            if not name.startswith("_"):
                getattr(header, name)
    assert source.total_bytes <= LIMITS.header_bytes


def test_the_example_of_the_mutations_is_sound() -> None:
    header = read_header(BytesSource(SOUND))
    assert header.quantization == "Q4_K_M"
    assert header.head_count_kv == (2, 1)
    assert header.weights_bytes == 288 + 128


def test_every_truncation_is_a_bad_file() -> None:
    for size in [*range(0, 700), *range(700, len(SOUND) - 1, 61), len(SOUND) - 1]:
        with pytest.raises(BadFile):
            read_header(BytesSource(SOUND[:size]))


def test_every_single_byte_may_have_any_of_some_nasty_values() -> None:
    for position in [*range(0, 500), *range(500, len(SOUND), 37), *range(len(SOUND) - 600, len(SOUND) - 400)]:
        for value in (0, 1, 0x7F, 0x80, 0xFF):
            data = bytearray(SOUND)
            data[position] = value
            check_bounded(bytes(data), size_known=True)


@settings(max_examples=600, deadline=None)
@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(SOUND) - 1), st.one_of(st.binary(min_size=1, max_size=9), st.just(b"\xff" * 8))),
        max_size=6,
    ),
    cut=st.one_of(st.none(), st.integers(0, len(SOUND))),
    size_known=st.booleans(),
)
def test_any_mutation_is_a_header_or_a_bad_file(
    edits: list[tuple[int, bytes]], cut: int | None, size_known: bool
) -> None:
    data = bytearray(SOUND)
    for position, new in edits:
        data[position : position + len(new)] = new
    check_bounded(bytes(data[:cut]), size_known=size_known)


@settings(max_examples=300, deadline=None)
@given(rest=st.binary(max_size=400))
def test_any_bytes_after_the_magic_are_a_header_or_a_bad_file(rest: bytes) -> None:
    check_bounded(b"GGUF" + rest, size_known=True)
    check_bounded(build.header(metadata_count=3, tensor_count=2) + rest, size_known=False)


@settings(max_examples=300, deadline=None)
@given(kinds=st.lists(st.tuples(st.integers(0, 14), st.binary(max_size=40)), max_size=6))
def test_any_metadata_values_are_a_header_or_a_bad_file(kinds: list[tuple[int, bytes]]) -> None:
    entries = [build.text(f"llama.k{index}") + struct.pack("<I", kind) + raw for index, (kind, raw) in enumerate(kinds)]
    check_bounded(build.header(entries) + bytes(64), size_known=True)
