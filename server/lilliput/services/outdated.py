"""Which installed models the Hub has newer files of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from lilliput.catalogue import InstalledModel
from lilliput.gguf import group_variants
from lilliput.hub import RemoteFile, Repository, path_in_repository
from lilliput.services.hub_answers import HubAnswer, HubListing, ask_hub

State = Literal["up-to-date", "newer", "gone", "unreachable", "local"]


class Selector(Protocol):
    """Finds installed models by what people call them."""

    async def select(self, names: Sequence[str]) -> tuple[InstalledModel, ...]:
        """The models that names mean, all without names; ModelNotFound."""
        ...


@dataclass(frozen=True, slots=True)
class FileChange:
    """A file that the Hub has otherwise now: ``changed``, ``added`` or ``removed``; None where there is none."""

    path: str
    change: Literal["changed", "added", "removed"]
    size_bytes: int | None = None
    sha256: str | None = None
    hub_size_bytes: int | None = None
    hub_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Freshness:
    """A model against the Hub: what differs, and the ``pull`` that would update it.

    ``local`` models came from no Hub. A newer commit that leaves this model's files alone is up to date.
    """

    model: str
    state: State
    repo: str | None = None
    revision: str | None = None
    hub_revision: str | None = None
    changes: tuple[FileChange, ...] = field(default=())
    reason: str | None = None
    pull: str | None = None


class Outdated:
    """Compares installed models with the Hub; each repository is asked once, for a few seconds."""

    def __init__(self, models: Selector, hub: HubListing) -> None:
        self._models = models
        self._hub = hub

    async def compare(self, names: Sequence[str] = ()) -> tuple[Freshness, ...]:
        """The models that names mean, without names all that came from the Hub. Raises BadName, ModelNotFound."""
        models = [model for model in await self._models.select(names) if names or model.source == "hub"]
        answers = await ask_hub(self._hub, [(model.repo, "main") for model in models if model.repo is not None])
        return tuple(
            Freshness(model.name, "local", reason="it did not come from the Hub")
            if model.repo is None
            else freshness(model, answers[model.repo, "main"])
            for model in models
        )


def freshness(model: InstalledModel, answer: HubAnswer) -> Freshness:
    """A model of the Hub against what the Hub answered."""
    repository = answer.repository
    if repository is None:
        state: State = "gone" if answer.gone else "unreachable"
        return Freshness(model.name, state, model.repo, model.revision, reason=answer.reason)

    def told(state: State, reason: str | None, changes: tuple[FileChange, ...] = ()) -> Freshness:
        pull = f"lilliput pull {model.name}" if state == "newer" else None
        return Freshness(
            model.name, state, model.repo, model.revision, repository.revision, changes, reason=reason, pull=pull
        )

    if repository.revision == model.revision:
        return told("up-to-date", None)
    there = {file.path: file for file in repository.files}
    paths = [path_in_repository(file.path) or file.path.name for file in model.files]
    missing = [path for path in paths if path not in there]
    if missing:
        others = _same_quantization(model, repository)
        if not others:
            return told("gone", f"{model.repo} no longer has {', '.join(missing)}")
        removed = [FileChange(path, "removed") for path in missing]
        added = [FileChange(one.path, "added", None, None, one.size_bytes, one.sha256) for one in others]
        return told("newer", f"its files have other names now: {others[0].path}", (*removed, *added))
    changes = tuple(
        FileChange(path, "changed", file.size_bytes, file.sha256, there[path].size_bytes, there[path].sha256)
        for path, file in zip(paths, model.files, strict=True)
        if (file.size_bytes, file.sha256) != (there[path].size_bytes, there[path].sha256)
    )
    if not changes:
        return told("up-to-date", "the repository has a newer commit that leaves these files as they are")
    return told("newer", f"changed: {', '.join(change.path for change in changes)}", changes)


def _same_quantization(model: InstalledModel, repository: Repository) -> tuple[RemoteFile, ...]:
    """The files that a pull of the model's name would bring, where it is named by its quantization."""
    if model.quantization is None or model.name.lower().endswith(".gguf"):
        return ()
    variants = group_variants((file.path, file.size_bytes) for file in repository.files)
    found = [one for one in variants if one.quantization == model.quantization and one.complete]
    return tuple(repository.file(path) for path in found[0].paths) if len(found) == 1 else ()
