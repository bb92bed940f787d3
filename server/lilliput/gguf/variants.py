"""Group the files of a repository into variants: one quantization of one model, with all its shards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from lilliput.gguf.filenames import FileName, parse_filename


@dataclass(frozen=True, slots=True)
class Variant:
    """One loadable choice: ``paths`` in load order (the engine opens the first), ``size_bytes`` of all of them.

    ``quantization`` is None where the file name does not say; ``complete`` is False when shards are missing; ``stem``
    is the name without quantization, which tells apart two models of one repository that share a quantization.
    """

    quantization: str | None
    paths: tuple[str, ...]
    size_bytes: int
    complete: bool
    stem: str


def group_variants(files: Iterable[tuple[str, int]]) -> tuple[Variant, ...]:
    """The variants among (path, size in bytes) pairs, biggest first; only files of role ``"model"`` count.

    Shards belong together when their paths differ in the split number only: llama.cpp finds them by the same rule.
    """
    groups: defaultdict[tuple[str, int], list[tuple[int, str, int, FileName]]] = defaultdict(list)
    for path, size_bytes in files:
        name = parse_filename(path)
        if name.role != "model":
            continue
        index, total = name.shard or (1, 1)
        groups[_split_prefix(path, name), total].append((index, path, size_bytes, name))
    variants = [_variant(sorted(group, key=_index), total) for (_, total), group in groups.items()]
    return tuple(sorted(variants, key=lambda variant: (-variant.size_bytes, variant.paths)))


def _split_prefix(path: str, name: FileName) -> str:
    """The path that all shards share; of a whole file, its own."""
    return path if name.shard is None else path[: -len("-00001-of-00001.gguf")]


def _index(member: tuple[int, str, int, FileName]) -> tuple[int, str]:
    return member[:2]


def _variant(group: list[tuple[int, str, int, FileName]], total: int) -> Variant:
    name = group[0][3]
    return Variant(
        quantization=name.quantization,
        paths=tuple(path for _, path, _, _ in group),
        size_bytes=sum(size_bytes for _, _, size_bytes, _ in group),
        complete=[index for index, _, _, _ in group] == list(range(1, total + 1)),
        stem=name.stem,
    )
