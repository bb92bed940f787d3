from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.model import gemma_path, smollm2_path
from tests.support.shapes import LLAMA_70B, Dense, dense

from lilliput.errors import BadFile
from lilliput.gguf import FileSource, GgmlType, Header, place_tensors, read_header, stand_in_bytes, write_stand_in

LITTLE = 1 << 20


def header_of(path: Path) -> Header:
    with FileSource(path) as source:
        return read_header(source)


@pytest.mark.parametrize("path", [smollm2_path, gemma_path], ids=["smollm2", "gemma3"])
def test_a_stand_in_says_what_the_model_says(tmp_path: Path, path: object) -> None:
    assert callable(path)
    original = header_of(path())
    write_stand_in(original, tmp_path / "stand-in.gguf")
    copy = header_of(tmp_path / "stand-in.gguf")
    assert copy.architecture == original.architecture
    assert [(one.name, one.shape, one.type) for one in copy.tensors] == [
        (one.name, one.shape, one.type) for one in original.tensors
    ]
    assert copy.vocab_size == original.vocab_size
    assert copy.head_count_kv == original.head_count_kv
    assert copy.sliding_window == original.sliding_window
    ours = {key for key in copy.metadata if not key.startswith(("tokenizer.", "general.alignment"))}
    assert {key: copy.metadata[key] for key in ours} == {
        key: original.metadata.get(key, copy.metadata[key]) for key in ours
    }
    assert not any(key.startswith("tokenizer.") and key != "tokenizer.ggml.model" for key in copy.metadata)


def test_a_giant_takes_little_room(tmp_path: Path) -> None:
    original = header_of(LLAMA_70B.write(tmp_path / "giant.gguf"))
    target = tmp_path / "stand-in.gguf"
    write_stand_in(original, target)
    assert target.stat().st_size > 140 * 10**9
    assert len(stand_in_bytes(original)) < LITTLE
    if hasattr(target.stat(), "st_blocks"):
        assert target.stat().st_blocks * 512 < LITTLE


def test_the_set_that_a_part_belongs_to_is_left_out(tmp_path: Path) -> None:
    original = header_of(dense("llama", Dense(1, 256, 4, 4, 256, 64)).write(tmp_path / "model.gguf"))
    metadata = {**original.metadata, "split.count": 2, "split.no": 0}
    types = {**original.types, "split.count": "uint16", "split.no": "uint16"}
    part = Header(3, metadata, original.tensors, 32, 0, types)
    assert b"split." not in stand_in_bytes(part)


@pytest.mark.parametrize("tokens", [65, 2**32 - 1])
def test_a_vocabulary_that_the_embedding_does_not_have_is_refused(tmp_path: Path, tokens: int) -> None:
    shape = dense("llama", Dense(1, 256, 4, 4, 256, 64), vocab_size=tokens)
    with pytest.raises(BadFile, match="its embedding has 64 rows"):
        stand_in_bytes(header_of(shape.write(tmp_path / "model.gguf")))


def test_weights_that_no_model_has_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    world = place_tensors([("token_embd.weight", (1 << 21, 3 << 20), GgmlType.F16)])
    header = Header(3, {"general.architecture": "llama"}, world, 32, 0, {"general.architecture": "text"})
    with pytest.raises(BadFile, match=r"its tensors would take 12\.0 TiB"):
        write_stand_in(header, tmp_path / "stand-in.gguf")
    assert not list(tmp_path.iterdir())


def test_a_header_without_tensors_or_vocabulary_has_a_stand_in(tmp_path: Path) -> None:
    bare = Header(3, {"general.architecture": "llama"}, (), 32, 0, {"general.architecture": "text"})
    write_stand_in(bare, tmp_path / "bare.gguf")
    assert header_of(tmp_path / "bare.gguf").architecture == "llama"
