"""What computing costs on one device of one machine with one build: seconds a byte by tensor type, and fixed costs.

On CPUs quantized types are bound by computing and plain ones by memory, so bandwidth alone predicts neither: each type
has a measured rate of its own. Types that were not measured borrow from their nearest kin; a device that was not
measured at all is assumed from its bandwidth.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from statistics import median
from typing import Any, Literal

from lilliput.fit.traffic import elements_of
from lilliput.gguf import GgmlType

_VERSION = 2

DeviceKind = Literal["cpu", "unified", "gpu"]
Source = Literal["measured", "borrowed", "assumed"]

_DISTURBED = 0.7
"""Below this part of their time on the cores, the probe's threads were waiting for somebody else's."""

MEASURED_ERROR, BORROWED_ERROR, ASSUMED_ERROR, ASSUMED_PROMPT_ERROR = 0.10, 0.30, 0.45, 0.9
"""Half widths of intervals, as natural logarithms."""

PROBED_PROMPT_ERROR = 0.25
"""A prompt loads all cores for seconds, the probe for moments: measured up to a third faster than what lasts."""

_KIN = (
    ("F16", "BF16", "F32"),
    ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "IQ4_NL", "MXFP4", "NVFP4"),
    ("Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K", "TQ2_0", "TQ1_0"),
    ("IQ4_XS", "IQ3_S", "IQ3_XXS", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S"),
)
"""Types whose kernels are alike, neighbours side by side."""

_PLAIN_TYPES = frozenset(_KIN[0])

_EFFICIENCY: Mapping[DeviceKind, tuple[float, float]] = {"cpu": (0.85, 0.55), "unified": (0.8, 0.65), "gpu": (0.8, 0.6)}
"""Part of the bandwidth that plain and quantized weights reach while tokens are generated. CPU: two cores of a server
(AVX2), where memory is fast for so few. The others: published llama-bench results against data-sheet bandwidth."""

_SLOWER = {"Q2_K": 0.8} | dict.fromkeys(_KIN[3][1:], 0.6)
"""Types that take more computing for a byte than others."""

_ELEMENTS_A_BYTE: Mapping[DeviceKind, float] = {"cpu": 3.5, "unified": 14.0, "gpu": 40.0}
"""Products a second over bytes a second while a prompt is processed: orders of magnitude, from the same results."""

_PEAK_SHARE = 0.65
"""Part of an accelerator's half-precision peak that prompts reach. llama-bench of a 7B model, 512 tokens, as told in
llama.cpp's pull requests 4766 and 4812: RTX 4090 0.65 (Q4_0), 0.63 (Q8_0), 0.9 (F16); RTX 3090 Ti 0.68 (Q4_0).
"""

_LAYER_S: Mapping[DeviceKind, float] = {"cpu": 4e-5, "unified": 3e-5, "gpu": 3e-5}


@dataclass(frozen=True, slots=True)
class TypeRate:
    """One type's cost: ``byte_s`` seconds for a byte while generating, ``element_s`` for a product in a prompt.

    ``error`` is the uncertainty as a natural logarithm.
    """

    byte_s: float
    element_s: float
    error: float = MEASURED_ERROR
    source: Source = "measured"


@dataclass(frozen=True, slots=True)
class Calibration:
    """Costs on one device in seconds.

    ``layer_s`` a layer and token beside its weights (``expert_layer_s`` more where it routes to experts), ``token_s`` a
    token, ``vocab_row_s`` an entry of the vocabulary, ``attention_s`` a product with the cache. ``prompt_layer_s`` and
    ``prompt_attention_s`` are the same for a token of a prompt. ``expert_factor`` is what a byte of experts costs
    against a byte of other weights, ``prompt_expert_factor`` the same for their products in a prompt;
    ``experts_measured`` says that these are no guesses. ``error`` is how far predictions were off lately (natural
    logarithm), over ``observations`` real runs.
    """

    rates: Mapping[str, TypeRate]
    layer_s: float
    token_s: float
    vocab_row_s: float
    attention_s: float
    prompt_layer_s: float
    prompt_attention_s: float
    bandwidth_bytes_s: float | None = None
    expert_factor: float = 1.0
    expert_layer_s: float = 0.0
    prompt_expert_factor: float = 1.0
    experts_measured: bool = False
    error: float = MEASURED_ERROR
    observations: int = 0

    def rate(self, type_name: str) -> TypeRate:
        """The type's rate: its own, or borrowed from the nearest kin that has one."""
        own = self.rates.get(type_name)
        return own if own is not None else self._borrow(type_name)

    @property
    def measured_types(self) -> frozenset[str]:
        """Types with a rate of their own."""
        return frozenset(name for name, rate in self.rates.items() if rate.source == "measured")

    def _borrow(self, type_name: str) -> TypeRate:
        """Kin take as long for an element, but no type is faster than memory."""
        lender = _nearest(type_name, self.rates)
        rate = self.rates[lender]
        plain = type_name in _PLAIN_TYPES and lender in _PLAIN_TYPES
        byte_s = rate.byte_s if plain else rate.byte_s * elements_of(type_name, 1.0) / elements_of(lender, 1.0)
        if self.bandwidth_bytes_s:
            byte_s = max(byte_s, 1 / self.bandwidth_bytes_s)
        source: Source = "assumed" if rate.source == "assumed" else "borrowed"
        return TypeRate(byte_s, rate.element_s, max(rate.error, BORROWED_ERROR), source)

    def to_json(self) -> str:
        """A text that ``from_json`` reads."""
        return json.dumps({"version": _VERSION, **asdict(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Calibration | None:
        """The calibration of such a text; None for one of another version or none at all: then calibrate anew."""
        try:
            said = json.loads(text)
            if said.pop("version") != _VERSION:
                return None
            rates = {name: TypeRate(**rate) for name, rate in said.pop("rates").items()}
            return cls(rates=rates, **said) if rates else None
        except (ValueError, TypeError, KeyError, AttributeError):
            return None


def assume(bandwidth_bytes_s: float, kind: DeviceKind = "cpu", *, flops: float | None = None) -> Calibration:
    """A device of which only the bandwidth is known: documented efficiencies, and intervals that are as wide.

    ``flops`` is its half-precision peak (operations a second, two a product), which bounds prompts; where unknown,
    that is told from the bandwidth, too.
    """
    plain, quantized = _EFFICIENCY[kind]
    element_s = 2 / (flops * _PEAK_SHARE) if flops else 1 / (bandwidth_bytes_s * _ELEMENTS_A_BYTE[kind])
    rates = {}
    for name in (name for row in _KIN for name in row):
        part = plain if name in _PLAIN_TYPES else quantized * _SLOWER.get(name, 1.0)
        rates[name] = TypeRate(1 / (bandwidth_bytes_s * part), element_s, ASSUMED_ERROR, "assumed")
    return Calibration(
        rates=rates,
        layer_s=_LAYER_S[kind],
        token_s=5e-5,
        vocab_row_s=5e-9,
        attention_s=2 / bandwidth_bytes_s,
        prompt_layer_s=0.0,
        prompt_attention_s=element_s,
        bandwidth_bytes_s=bandwidth_bytes_s,
        expert_factor=1.2,
        prompt_expert_factor=1.2,
        error=ASSUMED_ERROR,
    )


@dataclass(frozen=True, slots=True)
class _Run:
    """A line of the probe about one model."""

    type: str
    layers: int
    vocabulary: int
    weight_bytes: Mapping[str, int]
    decode_s: float
    sample_s: float
    prompt_s: float
    prompt_tokens: int
    disturbed: bool = False
    expert_bytes: Mapping[str, int] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return self.weight_bytes[self.type]


def calibrate(
    lines: Iterable[Mapping[str, Any]],
    *,
    bandwidth_bytes_s: float | None = None,
    previous: Calibration | None = None,
    trust_busy: bool = True,
) -> Calibration | None:
    """Costs from what the speed probe printed; None when no type was measured whole and nothing was known before.

    The probe may have run several times; what others disturbed counts only where there is nothing better.
    ``previous`` keeps what it did not measure. ``trust_busy`` False for
    accelerators, where idle threads are no sign of disturbance.
    """
    known = list(lines)
    small, large, experts = (_runs(known, name, trust_busy=trust_busy) for name in ("small", "large", "experts"))
    attention = _attention(known)
    pairs = [(small[name], large[name]) for name in large if name in small]
    if not pairs:
        return previous
    trusted = [(thin, wide) for thin, wide in pairs if not (thin.disturbed or wide.disturbed)]
    layer_s = _layer_cost(trusted or pairs) if trusted or previous is None else previous.layer_s
    rates = dict(previous.rates) if previous else {}
    rates |= {wide.type: _rate(thin, wide, layer_s) for thin, wide in pairs}
    row_s = max(0.0, median((s.sample_s - g.sample_s) / (s.vocabulary - g.vocabulary) for s, g in trusted or pairs))
    factor, expert_layer_s = _expert_costs(experts, rates, layer_s, previous)
    prompt_layer_s = median(max(0.0, _prompt_layer(thin, rates)) for thin, _ in trusted or pairs)
    old = previous
    return Calibration(
        rates=rates,
        layer_s=layer_s,
        token_s=max(0.0, median(g.sample_s - row_s * g.vocabulary for _, g in trusted or pairs)),
        vocab_row_s=row_s,
        attention_s=_per(attention, "decode_s", "elements", old.attention_s if old else _slowest(rates)),
        prompt_layer_s=prompt_layer_s,
        prompt_attention_s=_per(
            attention, "prompt_s", "prompt_elements", old.prompt_attention_s if old else _slowest(rates)
        ),
        bandwidth_bytes_s=bandwidth_bytes_s or (old.bandwidth_bytes_s if old else None),
        expert_factor=factor,
        expert_layer_s=expert_layer_s,
        prompt_expert_factor=_prompt_expert_factor(experts, rates, prompt_layer_s, previous),
        experts_measured=bool(old and old.experts_measured) or any(run.expert_bytes for run in experts.values()),
        error=old.error if old and old.observations else MEASURED_ERROR,
        observations=old.observations if old else 0,
    )


def _runs(lines: Iterable[Mapping[str, Any]], name: str, *, trust_busy: bool) -> dict[str, _Run]:
    """The runs of this name by type; of repeated ones the middle of the undisturbed, of all where none was."""
    found: dict[str, list[_Run]] = {}
    for line in lines:
        if line["run"] == name:
            run = _read(line, trust_busy=trust_busy)
            found.setdefault(run.type, []).append(run)
    merged = {}
    for kind, runs in found.items():
        used = [run for run in runs if not run.disturbed] or runs
        merged[kind] = replace(
            used[0],
            decode_s=median(run.decode_s for run in used),
            sample_s=median(run.sample_s for run in used),
            prompt_s=median(run.prompt_s for run in used),
        )
    return merged


def _attention(lines: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The cost of attention, the middle of repeated ones."""
    found = [line for line in lines if line["run"] == "attention"]
    if not found:
        return None
    return {
        **found[0],
        "decode_s": median(line["decode_s"] for line in found),
        "prompt_s": median(line["prompt_s"] for line in found),
    }


def _read(line: Mapping[str, Any], *, trust_busy: bool) -> _Run:
    names = ("type", "layers", "vocabulary", "weight_bytes", "decode_s", "sample_s", "prompt_s", "prompt_tokens")
    values = {name: line[name] for name in names}
    return _Run(**values, disturbed=trust_busy and line["busy"] < _DISTURBED, expert_bytes=line.get("expert_bytes", {}))


def _layer_cost(pairs: Iterable[tuple[_Run, _Run]]) -> float:
    """Two sizes of a type, two unknowns: what a layer costs when its bytes are taken off, the median of all types."""
    costs = []
    for small, large in pairs:
        share = small.bytes / large.bytes
        costs.append((small.decode_s - large.decode_s * share) / (small.layers - large.layers * share))
    return max(0.0, median(costs))


def _rate(small: _Run, large: _Run, layer_s: float) -> TypeRate:
    byte_s = max(large.decode_s - large.layers * layer_s, large.decode_s / 2) / large.bytes
    elements = elements_of(large.type, large.bytes)
    disturbed = small.disturbed or large.disturbed
    error = BORROWED_ERROR if disturbed else MEASURED_ERROR
    return TypeRate(byte_s, large.prompt_s / (large.prompt_tokens * elements), error)


def _prompt_layer(small: _Run, rates: Mapping[str, TypeRate]) -> float:
    products_s = elements_of(small.type, small.bytes) * rates[small.type].element_s
    return (small.prompt_s / small.prompt_tokens - products_s) / small.layers


def _expert_costs(
    runs: Mapping[str, _Run], rates: Mapping[str, TypeRate], layer_s: float, previous: Calibration | None
) -> tuple[float, float]:
    """How much more an expert's byte costs, all of what is unexplained put on the bytes."""
    factors = []
    for run in runs.values():
        experts = run.expert_bytes.get(run.type, 0)
        if experts and run.type in rates:
            byte_s = rates[run.type].byte_s
            rest = run.decode_s - run.layers * layer_s - byte_s * (run.bytes - experts)
            factors.append(rest / (byte_s * experts))
    if factors:
        return min(4.0, max(0.5, median(factors))), 0.0
    return (previous.expert_factor, previous.expert_layer_s) if previous else (1.0, layer_s / 2)


def _prompt_expert_factor(
    runs: Mapping[str, _Run], rates: Mapping[str, TypeRate], prompt_layer_s: float, previous: Calibration | None
) -> float:
    """How much more a product with an expert costs in a prompt, all of what is unexplained put on the products."""
    factors = []
    for run in runs.values():
        experts = run.expert_bytes.get(run.type, 0)
        if experts and run.type in rates:
            element_s = rates[run.type].element_s
            dense_s = elements_of(run.type, run.bytes - experts) * element_s + run.layers * prompt_layer_s
            factors.append((run.prompt_s / run.prompt_tokens - dense_s) / (elements_of(run.type, experts) * element_s))
    if factors:
        return min(4.0, max(0.5, median(factors)))
    return previous.prompt_expert_factor if previous else 1.0


def _per(line: Mapping[str, Any] | None, seconds: str, count: str, otherwise: float) -> float:
    return float(line[seconds]) / float(line[count]) if line is not None and line[count] else otherwise


def _slowest(rates: Mapping[str, TypeRate]) -> float:
    """A cost of products with the cache where none was measured: that of the slowest weights."""
    return max(rate.element_s for rate in rates.values())


def _nearest(type_name: str, known: Iterable[str]) -> str:
    """The known type that is most like another: nearest in its row of kin, else nearest in bits."""
    candidates = sorted(known)
    row = next((row for row in _KIN if type_name in row), ())
    kin = [name for name in candidates if name in row]
    if kin:
        return min(kin, key=lambda name: abs(row.index(name) - row.index(type_name)))
    bits = GgmlType[type_name].bits_per_element
    return min(candidates, key=lambda name: abs(math.log(GgmlType[name].bits_per_element / bits)))
