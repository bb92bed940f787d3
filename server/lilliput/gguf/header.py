"""What a GGUF file says about itself."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

from lilliput.gguf.types import GgmlType, file_type_label

_MOST_BLOCKS = 1024
"""llama.cpp has room for 512 layers. Much is computed layer by layer, and some of it looks at all layers each time."""

_MOST = (1 << 63) - 1
"""A larger number counts nothing, and no database could keep it."""

_ARCHITECTURE = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class Skipped:
    """A metadata value that was passed over: ``length`` elements of ``element_type`` at ``offset_bytes`` of the file.

    ``element_type`` is ``"string"``, ``"float32"``, … for a long array; ``"text"`` for one text too long to keep, whose
    ``length`` is in bytes.
    """

    element_type: str
    length: int
    offset_bytes: int


Scalar = bool | int | float | str
MetadataValue = Scalar | tuple[Scalar, ...] | Skipped


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor: ``shape`` as in the file (row length first), ``offset_bytes`` from the start of the tensor data."""

    name: str
    shape: tuple[int, ...]
    type: GgmlType
    offset_bytes: int

    @property
    def element_count(self) -> int:
        """How many numbers the tensor holds."""
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor's data, without padding."""
        return self.element_count // self.type.block_elements * self.type.block_bytes


@dataclass(frozen=True, slots=True)
class Header:
    """A file's metadata and tensor list. The properties read well-known keys and are None where the file does not say.

    ``data_offset_bytes`` is where the tensor data begins: everything before it is the header. ``types`` names the type
    of each metadata value as the file has it: ``"uint32"``, ``"text"``, ``"float32[]"``, …
    """

    version: int
    metadata: Mapping[str, MetadataValue]
    tensors: tuple[Tensor, ...]
    alignment: int
    data_offset_bytes: int
    types: Mapping[str, str] = field(default_factory=dict)

    def _text(self, key: str) -> str | None:
        value = self.metadata.get(key)
        return value if isinstance(value, str) and value else None

    def _number(self, key: str) -> int | None:
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST else None

    def _of_architecture(self, key: str) -> int | None:
        return self._number(f"{self.architecture}.{key}")

    def _per_layer(self, key: str) -> tuple[int, ...] | None:
        """A value that is one number for all layers, or an array with one for each."""
        value = self.metadata.get(f"{self.architecture}.{key}")
        if isinstance(value, tuple):
            numbers = tuple(one for one in value if isinstance(one, int) and not isinstance(one, bool) and one >= 0)
            return numbers if len(numbers) == len(value) and numbers else None
        one, blocks = self._of_architecture(key), self.block_count
        return None if one is None or blocks is None else (one,) * blocks

    @property
    def architecture(self) -> str | None:
        """llama.cpp's name of the architecture: ``"llama"``, ``"qwen3moe"``, … (``"clip"`` for projectors).

        None, too, for what can be no such name.
        """
        name = self._text("general.architecture")
        return name if name is None or _ARCHITECTURE.fullmatch(name) else None

    @property
    def name(self) -> str | None:
        """The model's name as its maker wrote it."""
        return self._text("general.name")

    @property
    def license(self) -> str | None:
        """Licence identifier."""
        return self._text("general.license")

    @property
    def context_length(self) -> int | None:
        """Tokens of context the model was trained for."""
        return self._of_architecture("context_length")

    @property
    def original_context_length(self) -> int | None:
        """Tokens of context before it was stretched to ``context_length`` by the file's own rope settings."""
        return self._of_architecture("rope.scaling.original_context_length")

    @property
    def block_count(self) -> int | None:
        """Number of layers; None for an absurd number."""
        count = self._of_architecture("block_count")
        return None if count is None or count > _MOST_BLOCKS else count

    @property
    def embedding_length(self) -> int | None:
        """Width of the hidden state."""
        return self._of_architecture("embedding_length")

    @property
    def head_count(self) -> int | None:
        """Attention heads of a layer; the largest where layers differ."""
        heads = self._per_layer("attention.head_count")
        return max(heads) if heads else self._of_architecture("attention.head_count")

    @property
    def head_count_kv(self) -> tuple[int, ...] | None:
        """Key/value heads of each layer (0: no attention cache there); where absent the head count, as in llama.cpp."""
        return self._per_layer("attention.head_count_kv") or self._per_layer("attention.head_count")

    @property
    def key_length(self) -> int | None:
        """Width of one key head; where absent the embedding width over the heads, as in llama.cpp."""
        return self._of_architecture("attention.key_length") or self._head_width()

    @property
    def value_length(self) -> int | None:
        """Width of one value head, with the same default as ``key_length``."""
        return self._of_architecture("attention.value_length") or self._head_width()

    def _head_width(self) -> int | None:
        width, heads = self.embedding_length, self.head_count
        return width // heads if width and heads else None

    @property
    def sliding_window(self) -> int | None:
        """Tokens of the attention window of windowed layers."""
        return self._of_architecture("attention.sliding_window") or None

    @property
    def expert_count(self) -> int | None:
        """Experts of a mixture-of-experts model."""
        return self._of_architecture("expert_count") or None

    @property
    def vocab_size(self) -> int | None:
        """Number of tokens in the vocabulary."""
        tokens = self.metadata.get("tokenizer.ggml.tokens")
        if isinstance(tokens, Skipped):
            return tokens.length
        return len(tokens) if isinstance(tokens, tuple) else self._of_architecture("vocab_size")

    @property
    def merge_count(self) -> int | None:
        """Merge rules of the vocabulary, 0 for one of another kind; None when the file has no vocabulary."""
        merges = self.metadata.get("tokenizer.ggml.merges")
        if isinstance(merges, Skipped):
            return merges.length
        if isinstance(merges, tuple):
            return len(merges)
        return 0 if "tokenizer.ggml.tokens" in self.metadata else None

    @property
    def chat_template(self) -> str | None:
        """The model's Jinja chat template."""
        return self._text("tokenizer.chat_template")

    @property
    def shard_count(self) -> int:
        """How many files the model is split into; 1 when it is whole."""
        return self._number("split.count") or 1

    @property
    def parameter_count(self) -> int | None:
        """Numbers in the model. Of a split file the tensors tell only a part, so there only the metadata counts."""
        if self.shard_count > 1 or not self.tensors:
            return self._number("general.parameter_count") or None
        return sum(tensor.element_count for tensor in self.tensors)

    @property
    def weights_bytes(self) -> int:
        """Bytes of all tensors of this file, without padding."""
        return sum(tensor.size_bytes for tensor in self.tensors)

    @property
    def quantization(self) -> str | None:
        """``"Q4_K_M"``, …: what the file says of itself, else the type that most of its bytes have."""
        file_type = self._number("general.file_type")
        label = None if file_type is None else file_type_label(file_type)
        if label is not None or not self.tensors:
            return label
        sizes: Counter[str] = Counter()
        for tensor in self.tensors:
            sizes[tensor.type.name] += tensor.size_bytes
        return sizes.most_common(1)[0][0]

    @property
    def tensor_types(self) -> frozenset[str]:
        """Names of the tensor types that occur."""
        return frozenset(tensor.type.name for tensor in self.tensors)
