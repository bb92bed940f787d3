"""Which installed model a name means: pure rules over what is installed and the families that are known."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from lilliput.catalogue import FamilyName, HubName, InstalledModel, ModelName, PathName, parse_name
from lilliput.errors import BadName, ModelNotFound
from lilliput.services.targets import Families


def find_installed(
    name: ModelName, installed: Sequence[InstalledModel], families: Families
) -> tuple[InstalledModel, ...]:
    """The installed models that ``name`` may mean, the best first: one of exactly this name goes before all others.

    A family without a size prefers its usual size. Among variants of one size or repository the latest comes first;
    when only other sizes are installed, the largest.
    """
    if isinstance(name, FamilyName):
        name = _spelled(name, families)
    exact = [model for model in installed if _parsed(model.name) == name]
    if isinstance(name, PathName):
        return tuple(exact)
    if isinstance(name, HubName):
        others = _latest(model for model in installed if _is_of_repository(model, name))
    else:
        others = _of_family(name, installed, families)
    return tuple(dict.fromkeys((*exact, *others)))


def same_model(one: InstalledModel, other: InstalledModel) -> bool:
    """Whether they differ in their quantization only."""
    return (one.architecture, one.parameter_count) == (other.architecture, other.parameter_count)


def not_installed(text: str, name: ModelName, installed: Sequence[InstalledModel], families: Families) -> ModelNotFound:
    """The error for a name that means nothing installed: says how to get it where it is known, and what is similar."""
    hints = []
    known = {model.name.casefold(): model.name for model in installed}
    near = [known[match] for match in get_close_matches(text.casefold(), known, n=3, cutoff=0.6)]
    if near:
        hints.append(f"installed and similar: {', '.join(near)}")
    if isinstance(name, HubName):
        hints.append(f"get it with `lilliput pull {name}`")
    elif isinstance(name, FamilyName):
        try:
            families.resolve(name)
            hints.append(f"get it with `lilliput pull {name}`")
        except ModelNotFound as error:
            hints.append(f"{error.message}; {error.hint}" if error.hint else error.message)
    return ModelNotFound(f"the model {text!r} is not installed", hint="; ".join(hints) or None)


def _spelled(name: FamilyName, families: Families) -> FamilyName:
    """The name as the table of families spells it; one that the table does not know stays as it is."""
    try:
        known = families.resolve(name)
    except ModelNotFound:
        return name
    return FamilyName(known.family, known.size if name.size is not None else None, name.quantization)


def _of_family(name: FamilyName, installed: Sequence[InstalledModel], families: Families) -> list[InstalledModel]:
    places = _places(families)
    sizes = {model: _sizes(model, name.family, places) for model in installed}
    found = [
        model
        for model in installed
        if sizes[model]
        and (name.size is None or name.size in sizes[model])
        and (name.quantization is None or model.quantization == name.quantization)
    ]
    usual = name.size or _usual_size(name, families)
    of_usual_size = _latest(model for model in found if usual in sizes[model])
    return of_usual_size or sorted(found, key=lambda model: -model.size_bytes)


def _usual_size(name: FamilyName, families: Families) -> str | None:
    try:
        return families.resolve(name).size
    except ModelNotFound:
        return None


def _places(families: Families) -> dict[str, set[tuple[str, str]]]:
    """Repository -> the (family, size) pairs it holds."""
    places: dict[str, set[tuple[str, str]]] = {}
    for size in families:
        places.setdefault(size.repo.casefold(), set()).add((size.family, size.size))
    return places


def _sizes(model: InstalledModel, family: str, places: dict[str, set[tuple[str, str]]]) -> set[str | None]:
    """The sizes of ``family`` that ``model`` counts as, by its name or by its repository."""
    sizes: set[str | None] = {size for known, size in places.get((model.repo or "").casefold(), ()) if known == family}
    name = _parsed(model.name)
    if isinstance(name, FamilyName) and name.family == family:
        sizes.add(name.size)
    return sizes


def _is_of_repository(model: InstalledModel, name: HubName) -> bool:
    if model.repo is None or model.repo.casefold() != name.repo.casefold():
        return False
    if name.file is not None:
        wanted = f"/{name.file}".casefold()
        return any(file.path.as_posix().casefold().endswith(wanted) for file in model.files)
    return name.quantization is None or model.quantization == name.quantization


def _latest(models: Iterable[InstalledModel]) -> list[InstalledModel]:
    return sorted(models, key=lambda model: -model.installed_at)


def _parsed(text: str) -> ModelName | None:
    try:
        return parse_name(text)
    except BadName:
        return None
