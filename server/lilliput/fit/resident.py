"""What an engine process on the CPU really holds: weights as they are mapped or copied, and what else a process keeps.

A plan counts each matrix once. Where the build copies ("repacks") one, the copy is what is computed with: anonymous
memory, which stays. The mapped original is clean page cache that nobody reads again and the system drops when it needs
room. Until then a process shows both, so the predicted proportional set size (PSS) does too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from lilliput.gguf import GgmlType, Header, Tensor
from lilliput.units import KIB, MIB

_PROCESS_BYTES = 40 * MIB
"""An engine process with its interpreter and libraries, before any model (measured: 39 to 43 MiB of PSS)."""

_TOKENIZER_BYTES = int(3.5 * MIB)
_TOKEN_BYTES = 150
_MERGE_BYTES = 145
"""The tokenizer: text and tables of an entry, and of a merge rule. Measured on three vocabularies: 49,152 tokens with
48,900 merges 17.0 MiB, 152,064 with 151,387 45.6 MiB, 262,144 without merges 40.6 MiB."""

_GRAPH_BYTES = 4 * KIB
"""Graph and scheduler metadata for each tensor: llama.cpp plans eight nodes for one."""

_LOOKED_UP = ("token_embd.weight", "per_layer_token_embd.weight", "position_embd.weight", "token_types.weight")
"""Matrices whose rows are looked up: no kernel multiplies with them, so they are never copied."""

_BATCH_ELEMENT_BYTES = 1.14
"""An activation that is quantized before it meets quantized weights (Q8_K: 292 bytes for 256)."""


@dataclass(frozen=True, slots=True)
class Repacking:
    """Which matrices a machine and build copy: see ``llama/repack.py``, whose answer ``from_mapping`` takes.

    ``rows`` maps a type's name to what the row count must be a multiple of, ``ratios`` to the size of the copy.
    """

    rows: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    ratios: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    experts: bool = False
    tied_output: bool = False

    @classmethod
    def from_mapping(cls, answer: Mapping[str, Any]) -> Repacking:
        """The answer of the child as a value."""
        types = answer["types"]
        return cls(
            rows={name: int(one["rows"]) for name, one in types.items()},
            ratios={name: float(one["ratio"]) for name, one in types.items()},
            experts=bool(answer["experts"]),
            tied_output=bool(answer["tied_output"]),
        )

    def copy_bytes(self, tensor: Tensor) -> int:
        """Bytes of the copy of a matrix that is multiplied with; 0 when it stays where it is."""
        multiple = self.rows.get(tensor.type.name)
        if multiple is None or len(tensor.shape) < 2 or tensor.shape[1] % multiple:
            return 0
        if len(tensor.shape) > 2 and not self.experts:
            return 0
        return round(tensor.size_bytes * self.ratios[tensor.type.name])


NO_REPACKING = Repacking()
"""Nothing is copied: with extra buffers off."""


@dataclass(frozen=True, slots=True)
class HeldWeights:
    """Weights on the CPU: ``mapped_bytes`` of files that stay mapped, ``copied_bytes`` in anonymous memory.

    ``used_bytes`` counts each matrix once: the copy where there is one. It is what a plan asks for.
    """

    mapped_bytes: int
    copied_bytes: int
    used_bytes: int


def hold_weights(files: Iterable[Sequence[Tensor]], repacking: Repacking = NO_REPACKING) -> HeldWeights:
    """The weights of a model on the CPU; ``files`` are the tensors of each of its parts.

    llama.cpp keeps of each file the range from the first to the last tensor that was not copied, whatever lies between.
    """
    parts = [list(tensors) for tensors in files]
    tied = not any(tensor.name == "output.weight" for tensors in parts for tensor in tensors)
    mapped = copied = used = 0
    for tensors in parts:
        kept = []
        for tensor in tensors:
            copy = 0 if tensor.name in _LOOKED_UP else repacking.copy_bytes(tensor)
            copied += copy
            used += copy or tensor.size_bytes
            if not copy:
                kept.append(tensor)
            if tied and repacking.tied_output and tensor.name == "token_embd.weight":
                second = repacking.copy_bytes(tensor)
                copied += second
                used += second
        if kept:
            end = max(tensor.offset_bytes + tensor.size_bytes for tensor in kept)
            mapped += end - min(tensor.offset_bytes for tensor in kept)
    return HeldWeights(mapped, copied, used)


@dataclass(frozen=True, slots=True)
class Copies:
    """What the CPU backend copies of a variant whose layers all stay on the CPU, in bytes.

    ``copied_bytes`` are all copies; ``added_bytes`` is by how much the weights take more than the file has of them: the
    copy of an embedding that serves as output matrix, whose original stays in use, and layouts that are larger.
    ``idle_bytes`` are mapped originals that nobody reads again.
    """

    copied_bytes: int = 0
    added_bytes: int = 0
    idle_bytes: int = 0

    def scaled(self, part: int, whole: int) -> Copies:
        """The same proportions at another size: ``part`` of ``whole``."""
        sizes = (self.copied_bytes, self.added_bytes, self.idle_bytes)
        return Copies(*(size * part // whole if whole else 0 for size in sizes))


NO_COPIES = Copies()
"""Of what is not repacked."""


def copies_of(files: Iterable[Sequence[Tensor]], repacking: Repacking) -> Copies:
    """The copies of a model; ``files`` are the tensors of each of its parts."""
    parts = [list(tensors) for tensors in files]
    held = hold_weights(parts, repacking)
    if not held.copied_bytes:
        return NO_COPIES
    whole = sum(tensor.size_bytes for tensors in parts for tensor in tensors)
    idle = held.mapped_bytes + held.copied_bytes - held.used_bytes
    return Copies(held.copied_bytes, held.used_bytes - whole, max(0, idle))


def tokenizer_bytes(tokens: int, merges: int) -> int:
    """Memory of a vocabulary of so many tokens and merge rules."""
    return _TOKENIZER_BYTES + _TOKEN_BYTES * tokens + _MERGE_BYTES * merges


def process_bytes(tensor_count: int) -> int:
    """Memory of an engine process besides weights, buffers and vocabulary: interpreter, libraries, graph metadata."""
    return _PROCESS_BYTES + _GRAPH_BYTES * tensor_count


def overhead_bytes(header: Header, tensors: Sequence[Tensor] | None = None, *, ubatch_tokens: int = 512) -> int:
    """All that a process holds besides weights, caches, compute and output buffers, for a model on the CPU.

    ``tensors`` are those of all parts of a split model (default: the header's own).
    """
    ours = header.tensors if tensors is None else tensors
    tokenizer = tokenizer_bytes(header.vocab_size or 0, header.merge_count or 0)
    return process_bytes(len(ours)) + tokenizer + batch_bytes(_widest_row(header, ours), ubatch_tokens)


def batch_bytes(row_elements: float, ubatch_tokens: int) -> int:
    """Activations of a micro-batch, converted for the kernel of a matrix with rows of so many elements."""
    return round(_BATCH_ELEMENT_BYTES * row_elements * ubatch_tokens)


def _widest_row(header: Header, tensors: Sequence[Tensor]) -> float:
    """Elements of the longest row that a token is multiplied with, those of all experts that it uses together."""
    used = header.metadata.get(f"{header.architecture}.expert_used_count")
    experts = used if isinstance(used, int) and not isinstance(used, bool) and used > 0 else 1
    widest = 0.0
    for tensor in tensors:
        if len(tensor.shape) < 2 or tensor.name in _LOOKED_UP or tensor.type is GgmlType.F32:
            continue
        plain = 2.0 / _BATCH_ELEMENT_BYTES if tensor.type in (GgmlType.F16, GgmlType.BF16) else 1.0
        widest = max(widest, tensor.shape[0] * plain * (experts if len(tensor.shape) > 2 else 1))
    return widest
