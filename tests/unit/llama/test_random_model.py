"""Generated models: read by our reader, loaded and run by llama.cpp, and gone where something failed."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lilliput.errors import DiskFull, InvalidRequest
from lilliput.gguf import FileSource, GgmlType, Header, read_header
from lilliput.llama import ContextSettings, ModelSettings, random_model
from lilliput.llama.batch import Batch
from lilliput.llama.context import Context, Decoded
from lilliput.llama.library import start_library
from lilliput.llama.model import Model
from lilliput.llama.random_model import RANDOM_KINDS, RandomShape, write_random_model
from lilliput.units import MIB

KINDS = sorted(RANDOM_KINDS, key=lambda kind: kind.name)
TINY = RandomShape(2, 256, 512, 4, 2, 512, GgmlType.F16)
EXPERTS = replace(TINY, experts=4, experts_used=2)


def header_of(path: Path) -> Header:
    with FileSource(path) as source:
        return read_header(source)


def logits_of(path: Path) -> Iterator[np.ndarray]:
    """The logits after a prompt of 8 tokens and after another one."""
    start_library()
    with (
        Model(ModelSettings(str(path), gpu_layers=0, rung="no-extra-buffers")) as model,
        Context(model, ContextSettings(64, 1, 32, 32, threads=1)) as context,
    ):
        batch = Batch(32)
        for position, tokens in ((0, list(range(1, 9))), (8, [9])):
            batch.clear()
            batch.add(tokens, position, 0, output_last=True)
            assert context.decode(batch) is Decoded.DONE
            yield context.logits(-1).copy()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_each_type_makes_a_model_that_llama_runs(tmp_path: Path, kind: GgmlType) -> None:
    path = tmp_path / "model.gguf"
    size = write_random_model(path, replace(TINY, kind=kind))
    assert path.stat().st_size == size
    header = header_of(path)
    assert {tensor.type for tensor in header.tensors if len(tensor.shape) > 1} == {kind}
    for logits in logits_of(path):
        assert logits.shape == (512,)
        assert np.isfinite(logits).all()
        assert 0.01 < logits.std() < 100  # of the size that trained models have, and not all the same


def test_the_header_says_what_was_asked_for(tmp_path: Path) -> None:
    write_random_model(tmp_path / "model.gguf", TINY)
    header = header_of(tmp_path / "model.gguf")
    assert (header.architecture, header.block_count, header.embedding_length) == ("llama", 2, 256)
    assert (header.head_count, header.head_count_kv, header.context_length) == (4, (2, 2), 4096)
    shapes = {tensor.name: tensor.shape for tensor in header.tensors}
    assert shapes["token_embd.weight"] == shapes["output.weight"] == (256, 512)
    assert shapes["blk.1.attn_k.weight"] == (256, 128)
    assert shapes["blk.0.ffn_down.weight"] == (512, 256)
    assert len(shapes) == 3 + 2 * 9


def test_weights_have_the_size_that_trained_ones_have(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_random_model(path, replace(TINY, kind=GgmlType.F32))
    header = header_of(path)
    data = path.read_bytes()[header.data_offset_bytes :]
    for tensor in header.tensors:
        numbers = np.frombuffer(data[tensor.offset_bytes :][: tensor.size_bytes], np.float32)
        if len(tensor.shape) == 1:
            assert (numbers == 1).all()
        else:
            assert numbers.std() == pytest.approx(0.02, rel=0.1)
            assert abs(numbers.mean()) < 0.001


def test_experts_and_their_router_are_run(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    write_random_model(path, replace(EXPERTS, kind=GgmlType.Q4_K))
    header = header_of(path)
    tensors = {tensor.name: tensor for tensor in header.tensors}
    assert (header.expert_count, header.metadata["llama.expert_used_count"]) == (4, 2)
    assert tensors["blk.0.ffn_up_exps.weight"].shape == (256, 512, 4)
    assert tensors["blk.0.ffn_gate_inp.weight"].type is GgmlType.F32
    assert "blk.0.ffn_up.weight" not in tensors
    assert all(np.isfinite(logits).all() for logits in logits_of(path))


def test_some_matrices_may_have_a_type_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    kinds = {"ffn_down": GgmlType.Q6_K, "token_embd": GgmlType.Q8_0}
    write_random_model(path, replace(TINY, kind=GgmlType.Q4_K, kinds=kinds, tied=True))
    types = {tensor.name: tensor.type.name for tensor in header_of(path).tensors}
    assert (types["blk.1.ffn_down.weight"], types["blk.1.ffn_up.weight"]) == ("Q6_K", "Q4_K")
    assert types["token_embd.weight"] == "Q8_0"
    assert "output.weight" not in types
    assert all(np.isfinite(logits).all() for logits in logits_of(path))


def test_the_same_seed_makes_the_same_file(tmp_path: Path) -> None:
    paths = [tmp_path / str(at) for at in range(3)]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        write_random_model(path, TINY, seed=seed)
    first, same, other = (path.read_bytes() for path in paths)
    assert first == same
    assert first != other


def test_tensors_longer_than_what_is_repeated_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    kind = GgmlType.Q6_K  # blocks of 210 bytes: what is repeated is no power of two
    size = write_random_model(path, replace(TINY, layers=1, vocabulary=24_000, kind=kind))
    header = header_of(path)
    last = header.tensors[-1]
    assert last.size_bytes > 2 * 2 * MIB
    assert size - (header.data_offset_bytes + last.offset_bytes + last.size_bytes) in range(32)
    scales = np.frombuffer(path.read_bytes(), np.uint8)[header.data_offset_bytes + last.offset_bytes :]
    blocks = scales[: last.size_bytes].reshape(-1, 210)
    assert (blocks[:, 208:] == blocks[0, 208:]).all()


@pytest.mark.parametrize("kind", [GgmlType.IQ2_XXS, GgmlType.Q8_1, GgmlType.I32, GgmlType.TQ1_0])
def test_a_type_that_cannot_be_made_is_named(tmp_path: Path, kind: GgmlType) -> None:
    with pytest.raises(InvalidRequest, match=kind.name):
        write_random_model(tmp_path / "model.gguf", replace(TINY, kind=kind))
    assert list(tmp_path.iterdir()) == []


def test_rows_that_a_types_blocks_do_not_divide_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="rows of 160 cannot be Q4_K") as caught:
        write_random_model(tmp_path / "model.gguf", replace(TINY, width=160, kind=GgmlType.Q4_K))
    assert "multiple of 256" in (caught.value.hint or "")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_noticed_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10**9, 10**9, 200 * MIB))
    with pytest.raises(DiskFull, match="no room for a generated model") as caught:
        write_random_model(tmp_path / "model.gguf", TINY)
    assert str(tmp_path) in str(caught.value)
    assert caught.value.hint
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (OSError(errno.ENOSPC, "no space left"), DiskFull),
        (OSError(errno.EIO, "broken"), OSError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
    ids=["full", "broken", "interrupted"],
)
def test_what_fails_while_writing_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, raised: type[BaseException]
) -> None:
    def broken(*_: object) -> Iterator[bytes]:
        yield b"some"
        raise error

    monkeypatch.setattr(random_model, "_pieces", broken)
    with pytest.raises(raised):
        write_random_model(tmp_path / "model.gguf", TINY)
    assert list(tmp_path.iterdir()) == []
