"""How much of a model a quantization loses: priors by type, of weights and of the KV cache."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from lilliput.errors import InvalidRequest
from lilliput.fit.quality_rows import Row, bad_table, check_keys, curve_of, fold, pairs_of, rows_at, table_at, texts_at

_FULL_PRECISION = frozenset({"BF16", "F16", "F32", "F64"})

_ODD_SIZE = 0.12
"""A file whose bits per weight are this much off its type's is said to be odd."""

_REPACKED = re.compile(r"_(?:R[48]|4_4|4_8|8_8)\Z")
_BITS_IN_NAME = re.compile(r"(?:UD-)?[A-Z]*?(\d)")


def is_full_precision(quantization: str | None) -> bool:
    """Whether the type is a floating-point format rather than a quantization."""
    return quantization in _FULL_PRECISION


@dataclass(frozen=True, slots=True)
class Quality:
    """A loss against the full-precision model; what is not known is None.

    ``kld`` is the mean Kullback-Leibler divergence of the next token's distribution in nats, ``dppl_percent`` the rise
    of perplexity in per cent, ``top1_agreement`` the share (0 to 1) of tokens where the likeliest one is the same.
    ``source`` says in words where the numbers come from; ``measured`` is whether they are of this very file.
    """

    kld: float | None
    dppl_percent: float | None
    top1_agreement: float | None
    bits_per_weight: float | None
    source: str
    measured: bool


def combine(variant: Quality, kv: Quality) -> Quality:
    """The quality of a variant that runs with a quantized KV cache.

    KLDs are added, which is a first-order approximation: the two errors are taken as independent and small. Perplexity
    ratios are multiplied; the agreement is the least that both leave. A number that one side lacks is None.
    """
    if kv.kld == 0:
        return variant
    kld = None if variant.kld is None or kv.kld is None else variant.kld + kv.kld
    dppl = None
    if variant.dppl_percent is not None and kv.dppl_percent is not None:
        dppl = 100 * ((1 + variant.dppl_percent / 100) * (1 + kv.dppl_percent / 100) - 1)
    top1 = None
    if variant.top1_agreement is not None and kv.top1_agreement is not None:
        top1 = max(0.0, variant.top1_agreement + kv.top1_agreement - 1)
    source = f"{variant.source}; plus {kv.source}; the KLDs are added, a first-order approximation"
    return Quality(kld, dppl, top1, variant.bits_per_weight, source, variant.measured and kv.measured)


@dataclass(frozen=True, slots=True)
class QualityTable:
    """The shipped priors; made by ``from_mapping`` from the parsed ``quality.toml``."""

    _types: Mapping[str, Row]
    _kv: Mapping[str, Row]
    _kv_of: Mapping[str, Mapping[str, Row]]
    _curve: tuple[tuple[float, float, float], ...]
    _top1: tuple[tuple[float, float], ...]

    @classmethod
    def from_mapping(cls, data: Mapping[str, object]) -> QualityTable:
        """The table from the parsed TOML, whose head describes its form. ``BadFile`` names what is wrong with it."""
        check_keys(data, {"curve", "top1_by_kld", "sources", "types", "kv"}, "the file")
        sources = texts_at(data.get("sources"), "sources")
        types = rows_at(data.get("types"), "types", sources)
        kv = table_at(data.get("kv"), "kv")
        check_keys(kv, {"types", "architectures"}, "kv")
        families = table_at(kv.get("architectures"), "kv.architectures")
        general = rows_at(kv.get("types"), "kv.types", sources)
        if not (general.get("q8_0") and general["q8_0"].kld):
            raise bad_table("kv.types lacks q8_0, which the others are scaled by")
        return cls(
            _types=types,
            _kv=general,
            _kv_of={fold(name): rows_at(one, f"kv.architectures.{name}", sources) for name, one in families.items()},
            _curve=curve_of(data.get("curve"), types),
            _top1=pairs_of(data.get("top1_by_kld")),
        )

    def of(
        self,
        quantization: str | None,
        *,
        file_bits_per_weight: float | None = None,
        architecture: str | None = None,
        measured: Quality | None = None,
    ) -> Quality:
        """The quality of a variant: what was ``measured`` on this very file, else the prior of its type.

        ``quantization`` is a canonical label (``"Q4_K_M"``, ``"UD-Q4_K_XL"``). A type without published loss has no
        ``kld``, unless ``architecture`` (as the header names it) was trained in it; an unknown type is placed on the
        curve of known ones by its bits per weight, and ``source`` says so. File bits do not change a type's prior.
        """
        if measured is not None:
            return measured
        found = self._find(quantization)
        if found is None:
            return self._unknown(quantization, file_bits_per_weight)
        row, notes = found
        bits = row.bits if file_bits_per_weight is None else file_bits_per_weight
        if row.native is not None and architecture is not None and fold(architecture) in row.native:
            return Quality(0.0, 0.0, 1.0, bits, f"{architecture} models are trained in {quantization}: no loss", False)
        if row.native is not None:
            notes = [*notes, "models trained in this type lose nothing, others are ranked by their bits"]
        top1, source = row.top1, row.source
        if top1 is None and row.kld is not None:
            top1 = self._agreement(row.kld)
            source += ", agreement estimated from the KLD" if top1 is not None else ""
        if row.bits and bits and abs(bits / row.bits - 1) > _ODD_SIZE:
            notes = [*notes, f"the file has {bits:.1f} bits per weight instead of about {row.bits:.1f}: of mixed types"]
        text = "; ".join((f"prior by type: {source}" if row.kld is not None else source, *notes))
        return Quality(row.kld, row.dppl, top1, bits, text, False)

    def loss(
        self, quantization: str | None, file_bits_per_weight: float | None = None, *, architecture: str | None = None
    ) -> float:
        """A KLD to sort variants of one model by, lower is better: the type's prior, else what its bits suggest.

        It never takes measured values: those of one model cannot be compared with priors of another.
        """
        kld = self.of(quantization, file_bits_per_weight=file_bits_per_weight, architecture=architecture).kld
        if kld is not None:
            return kld
        found = self._find(quantization)
        bits = file_bits_per_weight or (None if found is None else found[0].bits)
        return self._by_bits(bits)[0] if bits else self._curve[0][1]

    def of_kv(self, kv_type: str, architecture: str | None = None) -> Quality:
        """What a KV cache with K and V in ``kv_type`` adds; ``bits_per_weight`` are its bits per value.

        A measured family has its own figures; what they lack is the general prior in proportion, never less than it.
        """
        name = kv_type.lower()
        general = self._kv.get(name)
        if general is None or general.kld is None:
            raise InvalidRequest(
                f"{kv_type!r} is no type for a KV cache", hint=f"one of {', '.join(self._kv)}", param="kv_type"
            )
        own = self._kv_of.get(fold(architecture or ""), {})
        row, source = general, general.source
        if name in own:
            row, source = own[name], own[name].source
        elif general.kld > 0 and "q8_0" in own:
            ratio = (own["q8_0"].kld or 0.0) / (self._kv["q8_0"].kld or 1.0)
            if ratio > 1:
                row = replace(general, kld=general.kld * ratio)
                source = f"{general.source}, times {ratio:.1f} for {architecture} as seen at q8_0"
        text = "; ".join(part for part in (f"{name} KV cache: {source}", row.note) if part)
        return Quality(row.kld, row.dppl, row.top1, general.bits, text, False)

    def _find(self, quantization: str | None) -> tuple[Row, list[str]] | None:
        """The row with a type's numbers, and what must be said of it; None for an unknown type."""
        name = (quantization or "").upper()
        notes: list[str] = []
        if name not in self._types and _REPACKED.search(name):
            name = _REPACKED.sub("", name)
            notes.append(f"{name} in another order")
        if name not in self._types and name.startswith("UD-"):
            name = name[3:]
            notes.append(f"{name}'s figures: none are published for the dynamic mixture")
        row = self._types.get(name)
        if row is None:
            return None
        if row.note:
            notes.append(row.note)
        if row.same_as is None:
            return row, notes
        base = self._types[row.same_as]
        kld = None if base.kld is None else base.kld * (row.factor or 1.0)
        changed = row.factor is not None
        merged = replace(
            base,
            bits=row.bits or base.bits,
            kld=kld,
            dppl=None if changed else base.dppl,
            top1=None if changed else base.top1,
        )
        return merged, notes

    def _unknown(self, quantization: str | None, file_bits: float | None) -> Quality:
        named = _BITS_IN_NAME.match((quantization or "").upper())
        bits = file_bits or (float(named.group(1)) if named else None)
        what = f"{quantization} is not in the table" if quantization else "the type is not known"
        if not bits:
            return Quality(None, None, None, None, f"{what}, nor its bits per weight", False)
        kld, dppl = self._by_bits(bits)
        origin = "its bits per weight" if file_bits else "the bits in its name"
        source = f"{what}: interpolated by {origin} ({bits:.2f}) between known types"
        return Quality(kld, dppl, self._agreement(kld), bits, source, False)

    def _by_bits(self, bits: float) -> tuple[float, float]:
        """(KLD, ΔPPL %) of the curve: both fall exponentially between two types, and below the first with 1/bits."""
        first, last = self._curve[0], self._curve[-1]
        if bits <= first[0]:
            return first[1] * first[0] / bits, first[2] * first[0] / bits
        if bits >= last[0]:
            return last[1], last[2]
        above = next(at for at, point in enumerate(self._curve) if point[0] > bits)
        left, right = self._curve[above - 1], self._curve[above]
        part = (bits - left[0]) / (right[0] - left[0])
        return _between(left[1], right[1], part), _between(left[2], right[2], part)

    def _agreement(self, kld: float) -> float | None:
        """Top-token agreement that goes with a KLD, linear in its root; None beyond what was measured."""
        for (low, first), (high, second) in zip(self._top1, self._top1[1:], strict=False):
            if low <= kld <= high:
                part = (math.sqrt(kld) - math.sqrt(low)) / (math.sqrt(high) - math.sqrt(low))
                return first + (second - first) * part
        return None


def _between(left: float, right: float, part: float) -> float:
    """Geometric interpolation, linear towards zero."""
    return left ** (1 - part) * right**part if right > 0 else left * (1 - part)
