"""How fast a variant will run: what a token reads, by what reading costs; an interval, not only a point."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lilliput.fit.calibration import (
    ASSUMED_PROMPT_ERROR,
    BORROWED_ERROR,
    PROBED_PROMPT_ERROR,
    Calibration,
    Source,
    TypeRate,
)
from lilliput.fit.traffic import Traffic, elements_of

_STEP = 0.3
"""How far one observed run moves what is known."""

_MOST_CHANGE = math.log(2)
"""How much of one run's deviation is believed, as a natural logarithm: a busy machine is no slow machine."""

_GUESSED_ERROR = 0.1
"""More uncertainty where the mix of types was told from a name."""

_LEAST_ERROR = 0.08
_PROMPT_TOKENS = 512
"""The prompt whose speed is told, where no other is asked for and the depth is less."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens a second, as an interval with its middle."""

    low: float
    mid: float
    high: float


@dataclass(frozen=True, slots=True)
class SpeedForecast:
    """What to expect of a variant: ``generation`` for one sequence at the depth asked for, ``prompt`` for its prompt.

    ``source`` is the weakest ground: ``"measured"``, ``"borrowed"`` from kindred types (named in ``borrowed_types``) or
    ``"assumed"`` from bandwidth alone.
    """

    generation: Speed
    prompt: Speed
    source: Source
    borrowed_types: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceShare:
    """The part of a model that lies on one device, and what computing costs there."""

    traffic: Traffic
    calibration: Calibration


@dataclass(slots=True)
class _Bill:
    """Seconds of a token, added up with what is uncertain in them and the part of each type."""

    total_s: float = 0.0
    uncertain_s: float = 0.0
    by_type: dict[str, float] | None = None

    def add(self, seconds: float, error: float, type_name: str | None = None) -> None:
        self.total_s += seconds
        self.uncertain_s += seconds * error
        if type_name is not None and self.by_type is not None:
            self.by_type[type_name] = self.by_type.get(type_name, 0.0) + seconds

    def speed(self, tokens: int, more: float) -> Speed:
        """Tokens a second with the interval's bounds; ``more`` uncertainty for all."""
        if self.total_s <= 0:
            return Speed(0.0, 0.0, 0.0)
        width = math.exp(max(_LEAST_ERROR, self.uncertain_s / self.total_s) + more)
        mid = tokens / self.total_s
        return Speed(mid / width, mid, mid * width)


def predict(
    traffic: Traffic,
    calibration: Calibration,
    depth_tokens: int = 0,
    *,
    kv_type: str = "f16",
    prompt_tokens: int | None = None,
) -> SpeedForecast:
    """The speed of a model that lies on one device whole; see ``predict_split``."""
    share = DeviceShare(traffic, calibration)
    return predict_split((share,), depth_tokens, kv_type=kv_type, prompt_tokens=prompt_tokens)


def predict_split(
    shares: Sequence[DeviceShare],
    depth_tokens: int = 0,
    *,
    kv_type: str = "f16",
    prompt_tokens: int | None = None,
) -> SpeedForecast:
    """The speed of a model whose layers are split: a token passes the devices in turn, so their times add up.

    ``depth_tokens`` stand in the context before the generated token. The prompt has ``prompt_tokens``, or as many as
    the depth, at least 512. Raises ValueError without a share.
    """
    if not shares:
        raise ValueError("a model lies on at least one device")
    generation, prompt = _Bill(), _Bill()
    prompt_tokens = prompt_tokens or max(depth_tokens, _PROMPT_TOKENS)
    for share in shares:
        _bill_token(generation, share, depth_tokens, kv_type)
        _bill_prompt(prompt, share, prompt_tokens)
    used = {(name, share.calibration.rate(name).source) for share in shares for name in share.traffic.weight_bytes}
    sources = {source for _, source in used}
    source: Source = "assumed" if "assumed" in sources else "borrowed" if "borrowed" in sources else "measured"
    guessed = _GUESSED_ERROR if any(share.traffic.guessed for share in shares) else 0.0
    return SpeedForecast(
        generation=generation.speed(1, guessed),
        prompt=prompt.speed(prompt_tokens, guessed),
        source=source,
        borrowed_types=tuple(sorted(name for name, source in used if source == "borrowed")),
    )


def observe(
    calibration: Calibration,
    traffic: Traffic,
    depth_tokens: int,
    *,
    generation: float | None = None,
    prompt: float | None = None,
    kv_type: str = "f16",
) -> Calibration:
    """What is known after a real run of one sequence, alone, on this one device: tokens a second that it reached.

    ``depth_tokens`` is the middle depth while tokens were generated, and the prompt's length for ``prompt``. A run
    moves costs by a bounded part of its deviation, each type's by its part of the time. Speeds that are not positive
    are passed over.
    """
    share = DeviceShare(traffic, calibration)
    deviations = []
    rates, layer_s = dict(calibration.rates), calibration.layer_s
    bill = _Bill(by_type={})
    _bill_token(bill, share, depth_tokens, kv_type)
    if generation is not None and generation > 0 and bill.total_s > 0:
        deviation = -math.log(generation * bill.total_s)
        deviations.append(deviation)
        for name, rate, step in _steps(bill, calibration, deviation):
            rates[name] = replace(rate, byte_s=rate.byte_s * step, error=_narrowed(rate), source="measured")
        layer_s *= math.exp(_bounded(deviation) * _STEP * (1 - sum((bill.by_type or {}).values()) / bill.total_s))
    bill, tokens = _Bill(by_type={}), max(depth_tokens, 1)
    _bill_prompt(bill, share, tokens)
    if prompt is not None and prompt > 0 and bill.total_s > 0:
        deviation = -math.log(prompt * bill.total_s / tokens)
        for name, rate, step in _steps(bill, calibration, deviation):
            rates[name] = replace(rates.get(name, rate), element_s=rate.element_s * step)
    if not deviations:
        return replace(calibration, rates=rates)
    error = calibration.error + _STEP * (min(abs(deviations[0]), _MOST_CHANGE) - calibration.error)
    return replace(calibration, rates=rates, layer_s=layer_s, error=error, observations=calibration.observations + 1)


def _steps(bill: _Bill, calibration: Calibration, deviation: float) -> list[tuple[str, TypeRate, float]]:
    """Each type with its rate now and the factor that its cost changes by."""
    move = _bounded(deviation) * _STEP
    return [
        (name, calibration.rate(name), math.exp(move * seconds / bill.total_s))
        for name, seconds in (bill.by_type or {}).items()
    ]


def _bounded(deviation: float) -> float:
    return max(-_MOST_CHANGE, min(_MOST_CHANGE, deviation))


def _narrowed(rate: TypeRate) -> float:
    """Each real run takes a part of the uncertainty away, down to what is always there."""
    return rate.error + _STEP * (_LEAST_ERROR - rate.error)


def _bill_token(bill: _Bill, share: DeviceShare, depth_tokens: int, kv_type: str) -> None:
    """Seconds of one generated token on one device."""
    traffic, costs = share.traffic, share.calibration
    experts: Mapping[str, int] = traffic.expert_bytes
    for name, size in traffic.weight_bytes.items():
        rate = costs.rate(name)
        weighed = size + (costs.expert_factor - 1) * experts.get(name, 0)
        bill.add(weighed * rate.byte_s, _error(rate, costs), name)
    routed = sum(layer.graph for layer in traffic.layers if layer.experts)
    fixed = sum(layer.graph for layer in traffic.layers) * costs.layer_s + routed * costs.expert_layer_s
    bill.add(fixed, BORROWED_ERROR)
    if traffic.vocab_size:
        bill.add(costs.token_s + traffic.vocab_size * costs.vocab_row_s, BORROWED_ERROR)
    attention_s = traffic.attention_elements(depth_tokens) * costs.attention_s
    if costs.bandwidth_bytes_s:
        attention_s = max(attention_s, traffic.kv_bytes(depth_tokens, kv_type) / costs.bandwidth_bytes_s)
    bill.add(attention_s, BORROWED_ERROR)


def _bill_prompt(bill: _Bill, share: DeviceShare, tokens: int) -> None:
    """Seconds of a whole prompt on one device; only its last token needs the output matrix."""
    traffic, costs = share.traffic, share.calibration
    for layer in traffic.layers:
        for sizes, factor in ((layer.dense, 1.0), (layer.experts, costs.prompt_expert_factor)):
            for name, size in sizes.items():
                rate = costs.rate(name)
                least = _error(rate, costs) if costs.observations else PROBED_PROMPT_ERROR
                error = ASSUMED_PROMPT_ERROR if rate.source == "assumed" else max(least, rate.error)
                bill.add(tokens * elements_of(name, size) * rate.element_s * factor, error, name)
    for name, size in traffic.output.items():
        bill.add(size * costs.rate(name).byte_s, BORROWED_ERROR)
    bill.add(tokens * sum(layer.graph for layer in traffic.layers) * costs.prompt_layer_s, BORROWED_ERROR)
    bill.add(traffic.prompt_attention_elements(tokens) * costs.prompt_attention_s, BORROWED_ERROR)


def _error(rate: TypeRate, costs: Calibration) -> float:
    return max(rate.error, costs.error)
