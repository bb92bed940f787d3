"""The well-known families: which repository holds which size, read from TOML tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

from lilliput.catalogue.names import FamilyName, HubName, parse_name
from lilliput.errors import BadFile, BadName, ModelNotFound

_KEYS = frozenset(("title", "license", "default", "sizes", "aliases", "same"))
_SEPARATORS = re.compile(r"[-_.]")


@dataclass(frozen=True, slots=True)
class Family:
    """A family: ``sizes`` maps each size to its repository, ``same`` another word for a size to that size."""

    name: str
    title: str
    default: str
    sizes: Mapping[str, str]
    license: str | None = None
    aliases: tuple[str, ...] = ()
    same: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FamilySize:
    """One size of one family and the repository that holds it; ``name`` is canonical: ``"llama3.1:70b"``."""

    family: str
    size: str
    repo: str
    title: str
    license: str | None = None

    @property
    def name(self) -> str:
        """How this size is called."""
        return f"{self.family}:{self.size}"


class Families:
    """The families of some TOML files, read at first use; a later file replaces families of an earlier one."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._paths = tuple(paths)
        self._families: dict[str, Family] | None = None
        self._names: dict[str, str] = {}

    @classmethod
    def load(cls, paths: Iterable[Path]) -> Families:
        """Families from these files; nothing is read before the first question, which may raise ``BadFile``."""
        return cls(paths)

    def _table(self) -> dict[str, Family]:
        if self._families is None:
            families: dict[str, Family] = {}
            for path in self._paths:
                families.update(_read(path))
            self._names = _spellings(families.values())
            self._families = families
        return self._families

    def __iter__(self) -> Iterator[FamilySize]:
        for family in self._table().values():
            for size in family.sizes:
                yield _family_size(family, size)

    def __len__(self) -> int:
        return sum(len(family.sizes) for family in self._table().values())

    def families(self) -> tuple[Family, ...]:
        """All families, in the order of the files."""
        return tuple(self._table().values())

    def resolve(self, name: FamilyName) -> FamilySize:
        """The repository that ``name`` means; without a size, the family's default.

        Letter case and separators in the family's name do not count. Raises ``ModelNotFound`` with near matches.
        """
        family = self._family(name)
        if name.size is None:
            return _family_size(family, family.default)
        size = family.same.get(name.size, name.size)
        if size not in family.sizes:
            known = ", ".join(family.sizes)
            near = get_close_matches(size, family.sizes, n=1)
            hint = f"did you mean {family.name}:{near[0]}? sizes: {known}" if near else f"sizes: {known}"
            raise ModelNotFound(f"{family.name} has no size {name.size!r}", hint=hint)
        return _family_size(family, size)

    def _family(self, name: FamilyName) -> Family:
        families = self._table()
        known = self._names.get(_fold(name.family))
        if known is not None:
            return families[known]
        near = get_close_matches(_fold(name.family), self._names, n=3, cutoff=0.6)
        suggestions = ", ".join(dict.fromkeys(self._names[one] for one in near))
        hint = "name a repository as org/repo, or see the list of families"
        raise ModelNotFound(
            f"no family is called {name.family!r}",
            hint=f"did you mean {suggestions}? else {hint}" if suggestions else hint,
        )


def _fold(text: str) -> str:
    return _SEPARATORS.sub("", text.lower())


def _family_size(family: Family, size: str) -> FamilySize:
    return FamilySize(family.name, size, family.sizes[size], family.title, family.license)


def _spellings(families: Iterable[Family]) -> dict[str, str]:
    """Folded name or alias -> family; a name goes before an alias."""
    families = tuple(families)
    spellings = {_fold(alias): family.name for family in families for alias in family.aliases}
    return spellings | {_fold(family.name): family.name for family in families}


def _read(path: Path) -> dict[str, Family]:
    import tomllib  # late: names without families need no TOML

    try:
        with path.open("rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise BadFile(f"cannot read the families in {path}: {error}", hint="restore the file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadFile(f"{path} is not TOML: {error}", hint="correct the line it names") from error
    families = {name: _Entry(path, name, value).family() for name, value in document.items()}
    _check_spellings(path, families.values())
    return families


def _check_spellings(path: Path, families: Iterable[Family]) -> None:
    """No two families of a file may answer to one spelling."""
    owners: dict[str, str] = {}
    for family in families:
        for spelling in (family.name, *family.aliases):
            owner = owners.setdefault(_fold(spelling), family.name)
            if owner != family.name:
                message = f"{path}: {spelling!r} would mean both {owner} and {family.name}"
                raise BadFile(message, hint="rename one of them")


class _Entry:
    """One family's table in one file, checked key by key."""

    def __init__(self, path: Path, name: str, value: object) -> None:
        self._path = path
        self._name = name
        if not isinstance(value, dict):
            self._fail("is not a table")
        self._value: dict[str, object] = value

    def _fail(self, what: str) -> NoReturn:
        raise BadFile(f"{self._path}: {self._name} {what}", hint="the head of config/families.toml describes the form")

    def family(self) -> Family:
        """The family, or ``BadFile`` naming the file and the key."""
        for key in self._value:
            if key not in _KEYS:
                self._fail(f"has the unknown key {key!r}")
        if self._parsed(self._name) != FamilyName(self._name):
            self._fail("is not a family's name")
        sizes = self._texts("sizes")
        for size, repo in sizes.items():
            self._check_size(size, repo)
        same = self._texts("same")
        for word, size in same.items():
            if size not in sizes or word in sizes:
                self._fail(f"has same.{word} = {size!r}, but {word!r} must be new and {size!r} a size")
        default = self._text("default")
        if default not in sizes:
            self._fail(f"has the default {default!r}, which is not among its sizes")
        return Family(
            name=self._name,
            title=self._text("title"),
            default=default,
            sizes=MappingProxyType(sizes),
            license=self._text("license") if "license" in self._value else None,
            aliases=self._aliases(),
            same=MappingProxyType(same),
        )

    def _check_size(self, size: str, repo: str) -> None:
        if self._parsed(f"{self._name}:{size}") != FamilyName(self._name, size):
            self._fail(f"has the size {size!r}, which cannot be written in a model's name")
        name = self._parsed(repo)
        if not isinstance(name, HubName) or str(name) != repo or name.file or name.quantization:
            self._fail(f"has {repo!r} for {size}, which is not a repository (org/repo)")

    def _parsed(self, text: str) -> object:
        try:
            return parse_name(text)
        except BadName:
            return None

    def _text(self, key: str) -> str:
        value = self._value.get(key)
        if not isinstance(value, str) or not value:
            self._fail(f"needs a text for the key {key!r}")
        return value

    def _texts(self, key: str) -> dict[str, str]:
        table = self._value.get(key, {})
        if not isinstance(table, dict):
            self._fail(f"needs a table for the key {key!r}")
        for inner, value in table.items():
            if not isinstance(value, str) or not value:
                self._fail(f"needs a text for the key '{key}.{inner}'")
        return table

    def _aliases(self) -> tuple[str, ...]:
        aliases = self._value.get("aliases", [])
        if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
            self._fail("needs a list of texts for the key 'aliases'")
        return tuple(aliases)
