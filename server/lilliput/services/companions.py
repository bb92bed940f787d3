"""Files that are loaded beside a model: a projector, which gives it eyes, and an adapter (LoRA)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lilliput.errors import NotFound, VariantNotFound
from lilliput.gguf import parse_filename
from lilliput.hub import RemoteFile, Repository
from lilliput.services.plan_request import PlanRequest
from lilliput.units import format_bytes

_BEGINNINGS = ("/", "./", "../", "~")
_HINT = "give the path of a local file, as ./file.gguf, or the name of a file in the model's repository"

Listing = Callable[[], Awaitable[Repository | None]]
"""Asks for the repository that the model comes from; None for one that comes from none."""


@dataclass(frozen=True, slots=True)
class Companion:
    """One such file: ``kind`` in words, its path, and its size, all of which is counted as weights."""

    kind: str
    path: str
    size_bytes: int


async def find_companions(request: PlanRequest, listing: Listing) -> tuple[Companion, ...]:
    """What the request wants beside the model: a local path, or the name or path of a file in the model's repository.

    The repository is asked for only where it is not a path. Raises NotFound, VariantNotFound and the Hub's errors.
    """
    wanted = (("projector", request.mmproj), ("adapter", request.lora))
    return tuple([await _find(kind, text, listing) for kind, text in wanted if text is not None])


def projectors_of(repository: Repository) -> tuple[RemoteFile, ...]:
    """The projectors in a repository, smallest first."""
    found = (file for file in repository.files if parse_filename(file.path).role == "projector")
    return tuple(sorted(found, key=lambda file: (file.size_bytes, file.path)))


def notes_on(companions: Sequence[Companion], repository: Repository | None) -> tuple[str, ...]:
    """What a plan says of the files that it counts, and of a projector that it does not count."""
    told = [
        f"{one.kind} {one.path} ({format_bytes(one.size_bytes)}) is counted as weights in every need, on the first"
        " accelerator that holds layers, else in ram"
        for one in companions
    ]
    offered = projectors_of(repository) if repository is not None else ()
    if offered and not any(one.kind == "projector" for one in companions):
        names = ", ".join(f"{file.path} ({format_bytes(file.size_bytes)})" for file in offered)
        told.append(f"a projector for images is not counted unless it is asked for (mmproj): there is {names}")
    return tuple(told)


async def _find(kind: str, text: str, listing: Listing) -> Companion:
    if text.startswith(_BEGINNINGS) or Path(text).is_absolute():
        return Companion(kind, text, await asyncio.to_thread(_local_bytes, kind, text))
    repository = await listing()
    if repository is None:
        raise NotFound(f"there is no {kind} {text}", hint=_HINT)
    wanted = text.casefold()
    for file in repository.files:
        if wanted in (file.path.casefold(), file.path.casefold().rpartition("/")[2]):
            return Companion(kind, file.path, file.size_bytes)
    names = ", ".join(file.path for file in projectors_of(repository)) if kind == "projector" else ""
    raise VariantNotFound(
        f"{repository.repo_id} has no {kind} {text}",
        hint=f"it has {names}" if names else _HINT,
    )


def _local_bytes(kind: str, text: str) -> int:
    path = Path(text).expanduser()
    try:
        if path.is_file():
            return path.stat().st_size
    except (OSError, ValueError) as error:
        raise NotFound(f"the {kind} {text} cannot be looked at: {error}", hint=_HINT) from error
    raise NotFound(f"there is no {kind} {text}", hint=_HINT)
