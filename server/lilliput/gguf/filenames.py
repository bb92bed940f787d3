"""The grammar of GGUF file names: size, flavour, quantization, split part, and what kind of file it is.

Names have no standard that publishers keep to, so the parts are found as whole tokens between ``-``, ``.``, ``_`` and
``/``, whatever their order and letter case.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from lilliput.errors import BadName
from lilliput.gguf.types import FILE_TYPES

Role = Literal["model", "projector", "imatrix", "draft", "other"]

_SEPARATOR = "[-_.]"
_QUANTIZATIONS = (
    r"Q[2-8]_K(?:_(?:XXS|XS|S|M|L|XL|XXL))?",
    r"Q4_0_(?:4_4|4_8|8_8)",
    r"Q[1-8]_[01]",
    r"IQ4_NL_(?:4_4|4_8|8_8)",
    r"IQ[1-6]_(?:XXS|XS|S|M|L|XL|NL|KSS|KS|KT|KL|K)(?:_R[48])?",
    r"TQ[12]_0",
    r"MXFP4(?:_MOE)?",
    r"NVFP4",
)
_FLOATS = (r"BF16", r"FP?16", r"FP?32")
_BITS_ALONE = r"Q[2-8]"


def _whole_token(patterns: tuple[str, ...]) -> re.Pattern[str]:
    """Any of the patterns between token borders; ``_`` in a pattern matches every separator."""
    either = "|".join(pattern.replace("_", _SEPARATOR) for pattern in patterns)
    return re.compile(rf"(?<![A-Za-z0-9])(?:UD{_SEPARATOR})?(?:{either})(?![A-Za-z0-9])", re.IGNORECASE | re.ASCII)


_SPELLINGS = (_whole_token(_QUANTIZATIONS), _whole_token(_FLOATS), _whole_token((_BITS_ALONE,)))
"""In order of preference: ``model-f16-Q4_K_M`` is Q4_K_M; a bare ``q4`` counts only where nothing better is said."""

_SHARD = re.compile(rf"{_SEPARATOR}(\d{{5}})-of-(\d{{5}})$", re.IGNORECASE | re.ASCII)
_SIZE = re.compile(
    r"(?<![A-Za-z0-9])"
    r"((?:\d+x)?\d+(?:\.\d+)?[BMT](?:[-_](?:A\d+(?:\.\d+)?[BM]|\d+E))?|E\d+B)"
    r"(?![A-Za-z0-9])",
    re.IGNORECASE | re.ASCII,
)
_FLAVOURS = frozenset(
    ["instruct", "chat", "it", "base", "pt", "coder", "code", "math", "vl", "vision", "thinking", "reasoning", "qat"]
)
_DRAFT_WORDS = frozenset(("mtp", "draft", "drafter", "eagle", "eagle3", "dflash"))
_IMPORTANCE_MARKS = frozenset(("i1", "imat"))
_IMPORTANCE_PREFIX = re.compile(rf"\Ai1{_SEPARATOR}", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class FileName:
    """The parts of a file name; what it does not say is None.

    ``stem`` is the name without suffix, split part and quantization; ``base`` is the stem without size and flavour;
    ``size_label`` is ``"70B"``, ``"8x7B"``, ``"30B-A3B"``; ``flavour`` is lower-case words joined by ``-``, as in
    ``"coder-instruct"``; ``shard`` is (index from 1, total). Only role ``"model"`` can be loaded as a model.
    """

    stem: str
    base: str
    size_label: str | None
    flavour: str | None
    quantization: str | None
    shard: tuple[int, int] | None
    role: Role


def parse_filename(path: str) -> FileName:
    """The parts of a file's path inside a repository or on disk; directories help where the name is silent."""
    *directories, name = path.replace("\\", "/").split("/")
    stem, is_gguf = (name[:-5], True) if name.lower().endswith(".gguf") else (name, False)
    shard, stem = _split_shard(stem)
    quantization, mark = _find_quantization(stem)
    if mark is None:
        for directory in reversed(directories):
            quantization, _ = _find_quantization(directory)
            if quantization is not None:
                break
    plain = stem if mark is None else _without(stem, mark)
    size = _SIZE.search(plain)
    rest = plain if size is None else _without(plain, size.span())
    words = _words(rest)
    flavours = [word.lower() for word in words if word.lower() in _FLAVOURS]
    return FileName(
        stem=plain,
        base="-".join(word for word in words if word.lower() not in _FLAVOURS),
        size_label=None if size is None else size.group(1).upper().replace("X", "x").replace("_", "-"),
        flavour="-".join(flavours) or None,
        quantization=quantization,
        shard=shard,
        role=_role(stem, directories, quantization) if is_gguf and _shard_exists(shard) else _role_of_other(name),
    )


def normalize_quantization(tag: str) -> str:
    """The canonical label: ``"q4-k-m"`` -> ``"Q4_K_M"``, ``"fp16"`` -> ``"F16"``; ``BadName`` for an unknown one."""
    folded = _IMPORTANCE_PREFIX.sub("", tag.strip())
    for spelling in _SPELLINGS:
        if spelling.fullmatch(folded):
            return _canonical(folded)
    near = get_close_matches(re.sub(_SEPARATOR, "_", folded.upper()), FILE_TYPES.values(), n=3)
    hint = f"did you mean {', '.join(near)}?" if near else "write one like Q4_K_M, Q8_0, IQ3_XXS or F16"
    raise BadName(f"{tag[:60]!r} is not a known quantization", hint=hint)


def _canonical(text: str) -> str:
    label = re.sub(_SEPARATOR, "_", text.upper()).replace("FP16", "F16").replace("FP32", "F32")
    return f"UD-{label[3:]}" if label.startswith("UD_") else label


def _find_quantization(stem: str) -> tuple[str | None, tuple[int, int] | None]:
    """The label and where it stands: the last mention of the most telling kind."""
    for spelling in _SPELLINGS:
        mentions = list(spelling.finditer(stem))
        if mentions:
            return _canonical(mentions[-1].group()), mentions[-1].span()
    return None, None


def _split_shard(stem: str) -> tuple[tuple[int, int] | None, str]:
    found = _SHARD.search(stem)
    if found is None:
        return None, stem
    return (int(found.group(1)), int(found.group(2))), stem[: found.start()]


def _shard_exists(shard: tuple[int, int] | None) -> bool:
    return shard is None or 1 <= shard[0] <= shard[1]


def _without(text: str, span: tuple[int, int]) -> str:
    """The text with one part cut out, and the separators around the hole with it."""
    before, after = text[: span[0]].rstrip("-_."), text[span[1] :].lstrip("-_.")
    words = re.split(_SEPARATOR, before)
    if words[-1].lower() in _IMPORTANCE_MARKS:
        before = before[: -len(words[-1])].rstrip("-_.")
    return f"{before}-{after}" if before and after else before or after


def _words(text: str) -> list[str]:
    """The tokens of a name; a dot between digits belongs to a version number."""
    return [word for word in re.split(r"[-_]|(?<!\d)\.|\.(?!\d)", text) if word]


def _role(stem: str, directories: list[str], quantization: str | None) -> Role:
    words = [word.lower() for word in re.split(_SEPARATOR, stem) if word]
    folders = {directory.lower() for directory in directories}
    ends = {words[0], words[-1]} if words else set()
    if "mmproj" in words or "mmproj" in folders:
        return "projector"
    if "imatrix" in ends | folders or ("imatrix" in words and quantization is None):
        return "imatrix"
    # A file with only a drafting head says so first, last or by its folder; a model that contains one, in the middle.
    if "draft" in words or _DRAFT_WORDS & (ends | folders):
        return "draft"
    return "other" if words[:2] == ["ggml", "vocab"] else "model"


def _role_of_other(name: str) -> Role:
    return "imatrix" if "imatrix" in re.split(_SEPARATOR, name.lower()) else "other"
