"""What GGUF files on this disk say of themselves, and which of them belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lilliput.errors import BadFile, StorageError
from lilliput.gguf import FileSource, Header, group_variants, parse_filename, read_header


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What the headers of a model's files say together; None where they do not say."""

    architecture: str | None
    quantization: str | None
    context_length: int | None
    parameter_count: int | None
    license: str | None


def read_local_header(path: Path) -> Header:
    """The header of a file; BadFile when it is not sound, NotFound when there is none, StorageError when unreadable."""
    with FileSource(path) as source:
        return read_header(source, name=str(path))


def inspect(paths: Sequence[Path]) -> FileFacts:
    """Read the headers of all files of a model, in load order; BadFile when one is damaged or holds no model."""
    headers = [read_local_header(path) for path in paths]
    first = headers[0]
    if first.architecture is None:
        raise BadFile(f"{paths[0]} holds no model: it names no architecture", hint="choose the file with the weights")
    return FileFacts(
        architecture=first.architecture,
        quantization=first.quantization,
        context_length=first.context_length,
        parameter_count=sum(tensor.element_count for header in headers for tensor in header.tensors) or None,
        license=first.license,
    )


def shards_of(path: Path) -> tuple[Path, ...]:
    """All files of the split set that ``path`` belongs to, in load order; BadFile when some are missing."""
    shard = parse_filename(path.name).shard
    if shard is None or not path.is_file():  # reading a path that is no file says best what is wrong with it
        return (path,)
    try:
        beside = [(entry.name, entry.stat().st_size) for entry in path.parent.iterdir() if entry.is_file()]
    except OSError as error:
        raise StorageError(f"cannot read {path.parent}: {error}", hint="check the path and its permissions") from error
    for variant in group_variants(beside):
        if path.name in variant.paths:
            if variant.complete:
                return tuple(path.parent / name for name in variant.paths)
            break
    raise BadFile(
        f"{path.name} is part {shard[0]} of {shard[1]}, and other parts are missing in {path.parent}",
        hint="put all parts of the model into one directory",
    )
