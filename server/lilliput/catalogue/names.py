"""The grammar of model names: what a user may write, read into one of three kinds of name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn
from urllib.parse import unquote

from lilliput.errors import BadName
from lilliput.gguf import normalize_quantization

ACCEPTED_FORMS = (
    "smollm2, llama3.1:70b, llama3.1:70b-q4-k-m, org/repo, org/repo:Q4_K_M, hf.co/org/repo:Q4_K_M, org/repo/file.gguf "
    "or ./file.gguf"
)
_MOST_CHARACTERS = 512
_HUB_HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
_SUFFIX = ".gguf"

_PATH = re.compile(r"\.{1,2}[/\\]|[/\\~]|[A-Za-z]:[/\\]")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_FAMILY = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
_TAG = re.compile(r"[a-z0-9][a-z0-9._-]{0,79}")
_REPO_PART = re.compile(r"(?!.*(?:--|\.\.))[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
_QUANTIZATION_LIKE = re.compile(r"(?:ud[-_.])?(?:i?q\d|tq\d|mxfp|nvfp|b?f16|f32|fp16|fp32)(?![a-z])")
_SIZE_WORDS_DROPPED = frozenset(("instruct", "chat", "it"))
_SPLIT_TAG = re.compile(r"[-_]")


@dataclass(frozen=True, slots=True)
class FamilyName:
    """A well-known family, with ``family`` and ``size`` in lower case; what was not said is None.

    Two are equal when all three parts are. ``str()`` is ``"llama3.1:70b-q4_k_m"``.
    """

    family: str
    size: str | None = None
    quantization: str | None = None

    def __str__(self) -> str:
        quantization = None if self.quantization is None else self.quantization.lower()
        tag = "-".join(part for part in (self.size, quantization) if part is not None)
        return f"{self.family}:{tag}" if tag else self.family


@dataclass(frozen=True, slots=True, eq=False)
class HubName:
    """A repository on the Hub and, if said, a quantization or a file in it (never both).

    ``repo`` and ``file`` keep their letter case for display; two names are equal when they differ in letter case only.
    ``str()`` is ``"org/repo"``, ``"org/repo:Q4_K_M"`` or ``"org/repo/dir/file.gguf"``.
    """

    repo: str
    quantization: str | None = None
    file: str | None = None

    @property
    def key(self) -> str:
        """What decides equality: the name in one letter case."""
        return str(self).casefold()

    def __str__(self) -> str:
        if self.file is not None:
            return f"{self.repo}/{self.file}"
        return self.repo if self.quantization is None else f"{self.repo}:{self.quantization}"

    def __eq__(self, other: object) -> bool:
        return self.key == other.key if isinstance(other, HubName) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.key)


@dataclass(frozen=True, slots=True)
class PathName:
    """A local file, ``~`` expanded and relative paths left as they are; equal when the paths are for this system."""

    path: Path

    def __str__(self) -> str:
        text = str(self.path)
        return text if _PATH.match(text) else f"./{text}"


ModelName = FamilyName | HubName | PathName


def parse_name(text: str) -> ModelName:
    """Read a model's name in any accepted form; ``BadName`` says what is wrong and lists the forms.

    What begins as a path (``./``, ``/``, ``~``, ``C:\\``), or a bare ``file.gguf``, is a local file; what has a slash
    is a repository; any other is a family. ``latest`` as a tag says nothing.
    """
    text = text.strip()
    _check_characters(text)
    if _PATH.match(text):
        return _path(text)
    scheme = _SCHEME.match(text)
    if scheme is not None:
        return _url(text, scheme.group(1).lower(), text[scheme.end() :])
    host, _, rest = text.partition("/")
    if host.lower() in _HUB_HOSTS:
        return _hub(text, rest)
    if "/" in text:
        return _hub(text, text)
    if text.lower().endswith(_SUFFIX) and ":" not in text:
        return _path(text)
    return _family(text)


def _refuse(text: str, why: str) -> NoReturn:
    shown = text if len(text) <= 80 else f"{text[:77]}…"
    raise BadName(f"the model name {shown!r} cannot be read: {why}", hint=f"write {ACCEPTED_FORMS}", param="model")


def _check_characters(text: str) -> None:
    if not text:
        _refuse(text, "it is empty")
    if len(text) > _MOST_CHARACTERS:
        _refuse(text, f"it has {len(text)} characters, more than {_MOST_CHARACTERS}")
    if not text.isprintable():
        _refuse(text, "it contains control characters")


def _path(text: str) -> PathName:
    try:
        return PathName(Path(text).expanduser())
    except RuntimeError:
        _refuse(text, "there is no such home directory")


def _url(text: str, scheme: str, rest: str) -> HubName:
    """``https://huggingface.co/org/repo…`` as a browser shows it, or ``hf://org/repo…``."""
    if scheme == "hf":
        return _hub(text, rest)
    host, _, address = rest.partition("/")
    if scheme not in ("https", "http") or host.lower() not in _HUB_HOSTS:
        _refuse(text, "only addresses on huggingface.co are known")
    address = unquote(re.split("[?#]", address, maxsplit=1)[0]).rstrip("/")
    parts = address.split("/")
    if len(parts) > 3 and parts[2] in ("blob", "resolve", "tree"):
        if parts[3] != "main":
            _refuse(text, f"the revision {parts[3]!r} cannot be chosen; pulls use the current one")
        address = "/".join(parts[:2] + parts[4:])
        if parts[2] == "tree":
            address = "/".join(parts[:2])
    _check_characters(address)
    return _hub(text, address)


def _hub(text: str, address: str) -> HubName:
    before, colon, tag = address.partition(":")
    if colon and not tag:
        _refuse(text, "nothing follows the colon")
    owner, _, rest = before.partition("/")
    repo, slash, file = rest.partition("/")
    if not (_REPO_PART.fullmatch(owner) and _REPO_PART.fullmatch(repo)):
        _refuse(text, f"{owner}/{repo} is not a repository")
    if slash:
        if colon:
            _refuse(text, "a file takes no tag")
        return HubName(f"{owner}/{repo}", file=_file(text, file))
    if tag.lower().endswith(_SUFFIX):
        return HubName(f"{owner}/{repo}", file=_file(text, tag))
    if not tag or tag.lower() == "latest":
        return HubName(f"{owner}/{repo}")
    return HubName(f"{owner}/{repo}", quantization=_quantization(text, tag))


def _file(text: str, file: str) -> str:
    if not file.lower().endswith(_SUFFIX):
        _refuse(text, f"{file!r} is not a {_SUFFIX} file")
    if "\\" in file or ":" in file or any(part in ("", ".", "..") for part in file.split("/")):
        _refuse(text, f"{file!r} is not a plain path inside the repository")
    return file


def _quantization(text: str, tag: str) -> str:
    try:
        return normalize_quantization(tag)
    except BadName as error:
        hint = f"{error.hint}; names look like {ACCEPTED_FORMS}"
        raise BadName(f"the model name {text!r} cannot be read: {error.message}", hint=hint, param="model") from error


def _family(text: str) -> FamilyName:
    family, colon, tag = text.lower().partition(":")
    if colon and not tag:
        _refuse(text, "nothing follows the colon")
    if not _FAMILY.fullmatch(family):
        _refuse(text, f"{family!r} is not a family's name")
    if not tag or tag == "latest":
        return FamilyName(family)
    if not _TAG.fullmatch(tag):
        _refuse(text, f"{tag!r} is not a tag")
    start = _quantization_start(tag)
    quantization = None if start is None else _quantization(text, tag[start:])
    words = _SPLIT_TAG.split(tag if start is None else tag[:start].rstrip("-_."))
    size = "-".join(word for word in words if word and word not in _SIZE_WORDS_DROPPED)
    return FamilyName(family, size or None, quantization)


def _quantization_start(tag: str) -> int | None:
    """Where the quantization begins: at the first token that looks like one; it reaches to the end of the tag."""
    for border in re.finditer(r"(?:^|(?<=[-_.]))", tag):
        if _QUANTIZATION_LIKE.match(tag, border.start()):
            return border.start()
    return None
