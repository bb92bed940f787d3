"""From what a person types to what is meant: a repository with the quantization or file wanted, or a local file."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lilliput.catalogue import FamilyName, FamilySize, HubName, PathName, parse_name
from lilliput.errors import VariantNotFound
from lilliput.gguf import Variant, normalize_quantization

_PART = re.compile(r"-\d{5}-of-\d{5}\Z", re.ASCII)


class Families(Protocol):
    """The table of well-known model families."""

    def resolve(self, name: FamilyName) -> FamilySize:
        """The repository of a family and size (the family's usual size when none is given); ModelNotFound."""
        ...

    def __iter__(self) -> Iterator[FamilySize]: ...


@dataclass(frozen=True, slots=True)
class Target:
    """A repository of the Hub, and which of its variants: by quantization, by file, or (both None) whichever is best.

    ``family`` is the family and size (``"llama3.1:70b"``) when it was named so.
    """

    repo: str
    quantization: str | None = None
    file: str | None = None
    family: str | None = None

    @property
    def specific(self) -> bool:
        """Whether it names one variant, to which no floor applies then."""
        return self.quantization is not None or self.file is not None

    @property
    def key(self) -> str:
        """Equal for names of the same thing."""
        return "|".join((self.repo.casefold(), self.quantization or "", (self.file or "").casefold()))


def names_variant(text: str) -> bool:
    """Whether a model's name says which variant is meant: by its quantization or its file. Raises BadName."""
    name = parse_name(text)
    if isinstance(name, PathName):
        return True
    return name.quantization is not None or (isinstance(name, HubName) and name.file is not None)


def find_target(text: str, variant: str | None, families: Families) -> Target | Path:
    """What ``text`` names; ``variant`` (a quantization or a file) goes before what the name itself says.

    Returns an absolute path for a local file. Raises BadName, ModelNotFound.
    """
    name = parse_name(text)
    if isinstance(name, PathName):
        return Path(os.path.abspath(name.path))  # noqa: PTH100 - Path.absolute keeps '..'
    if isinstance(name, HubName):
        target = Target(name.repo, name.quantization, name.file)
    else:
        size = families.resolve(name)
        target = Target(size.repo, name.quantization, family=size.name)
    if variant is None:
        return target
    if variant.lower().endswith(".gguf"):
        return Target(target.repo, file=variant, family=target.family)
    return Target(target.repo, normalize_quantization(variant), family=target.family)


def matching(target: Target, repo: str, variants: Sequence[Variant]) -> tuple[Variant, ...]:
    """The complete variants that ``target`` may mean; VariantNotFound lists what there is when none is left."""
    if not variants:
        raise VariantNotFound(
            f"{repo} holds no GGUF model files", hint="look for a repository of the same model whose name ends in -GGUF"
        )
    if target.file is not None:
        found = [variant for variant in variants if _has_file(variant, target.file)]
        wanted = target.file
    elif target.quantization is not None:
        found = [variant for variant in variants if variant.quantization == target.quantization]
        wanted = target.quantization
    else:
        found, wanted = list(variants), "variant"
    complete = tuple(variant for variant in found if variant.complete)
    if complete:
        return complete
    if found:
        raise VariantNotFound(
            f"{repo} has {wanted} only in part: files of its split set are missing",
            hint=f"choose another: {_offer(variants)}",
        )
    raise VariantNotFound(f"{repo} has no {wanted}", hint=f"it has {_offer(variants)}")


def installed_name(target: Target, repo: str, variant: Variant, variants: Sequence[Variant]) -> str:
    """The name ``variant`` gets: ``llama3.1:70b-q4_k_m``, ``org/repo:Q4_K_M`` or ``org/repo/file.gguf``.

    The file's own name is taken where the quantization is unknown or several files of the repository share it.
    """
    alike = [other for other in variants if other.quantization == variant.quantization]
    if variant.quantization is None or len(alike) > 1:
        return f"{repo}/{variant.paths[0]}"
    if target.family is not None:
        return f"{target.family}-{variant.quantization}".lower()
    return f"{repo}:{variant.quantization}"


def variant_name(variant: Variant, variants: Collection[Variant]) -> str:
    """What ``variant`` is called among those of its repository: the quantization, which every such name ends with.

    Where several share it, the path comes before; where it is unknown, the path is all. A split set has one path.
    """
    kind = variant.quantization
    alike = [other for other in variants if other.quantization == kind]
    if kind is not None and len(alike) == 1:
        return kind
    path = _common_path(variant)
    if sum(_common_path(other) == path for other in alike) > 1:
        path = variant.paths[0].removesuffix(".gguf")
    if kind is None or path.endswith(kind):
        return path
    return path[: -len(kind)] + kind if path.casefold().endswith(kind.casefold()) else f"{path}:{kind}"


def _common_path(variant: Variant) -> str:
    """The path without ending, and without the number of the part where there are several."""
    return _PART.sub("", variant.paths[0].removesuffix(".gguf"))


def _has_file(variant: Variant, file: str) -> bool:
    wanted = file.casefold()
    return any(path.casefold() == wanted or path.casefold().rpartition("/")[2] == wanted for path in variant.paths)


def _offer(variants: Sequence[Variant]) -> str:
    names = dict.fromkeys(variant.quantization or variant.paths[0] for variant in variants if variant.complete)
    return ", ".join(names) or "nothing complete"
