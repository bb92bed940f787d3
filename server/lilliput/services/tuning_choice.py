"""Which settings of a load are fastest, from what was measured of them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from math import prod
from typing import Any

_WORTH = 1.03
"""What is not faster by this factor stays as it is: less would be noise."""

_WORTH_LOADING = 1.06
"""The same for what was measured in a load of its own, some time after the usual setting."""

_WORTH_LESS_THREADS = 1.10
"""The same for threads: the usual number is one a core, and a neighbour who has a core for some seconds makes fewer
look better than they are.
"""

_NO_LOSS = 1.02
_SAME_RATE = 1.03
_NARROW = 4
_WORTH_NARROWING = 1.10
"""Fewer sequences together than ``_NARROW`` make others wait for whole answers: only where that is clearly faster."""


@dataclass(frozen=True, slots=True)
class LoadChoices:
    """Settings of a load that decide about its speed; None leaves one to the defaults.

    ``threads`` compute passes of one token, ``batch_threads`` all others. ``width`` is how many sequences are decoded
    together, the rest waits in order. ``repack`` lets the library copy weights into a form that suits the processor,
    ``memory_map`` and ``memory_lock`` are as in ``llama.ModelSettings``.
    """

    flash_attention: bool | None = None
    threads: int | None = None
    batch_threads: int | None = None
    ubatch_tokens: int | None = None
    width: int | None = None
    repack: bool | None = None
    memory_map: bool | None = None
    memory_lock: bool | None = None

    def over(self, others: LoadChoices) -> LoadChoices:
        """What is chosen here, and what ``others`` choose beside it."""
        values = ((getattr(self, item.name), getattr(others, item.name)) for item in fields(self))
        return LoadChoices(*(theirs if own is None else own for own, theirs in values))


UNTUNED = LoadChoices()
"""All as usual."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting and its speed in tokens a second: of one sequence behind so many tokens, of a prompt, and of so many
    sequences together.
    """

    flash_attention: bool
    threads: int
    batch_threads: int
    ubatch_tokens: int
    repack: bool = True
    memory_map: bool = True
    tokens_per_s: tuple[tuple[int, float], ...] = ()
    prompt_tokens_per_s: float | None = None
    wide_tokens_per_s: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Tuning:
    """How a file is loaded on this machine: what was ``measured`` as fastest, and what somebody has ``chosen``, which
    goes first. ``trials`` are what was measured, none where nothing came of it; ``disturbed`` when other programs had
    the cores, so that it tells little.
    """

    measured: LoadChoices = field(default_factory=LoadChoices)
    chosen: LoadChoices = field(default_factory=LoadChoices)
    trials: tuple[Trial, ...] = ()
    disturbed: bool = False

    @property
    def settings(self) -> LoadChoices:
        """What loads use."""
        return self.chosen.over(self.measured)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {"settings": asdict(self.settings), **asdict(self)}


def decide(trials: Sequence[Trial]) -> LoadChoices:
    """The fastest of what was measured; the first trial is the usual setting and stays where nothing is clearly faster.

    Flash attention goes by generation (the geometric mean of the depths), threads by the depth where others gain least,
    threads for passes of several tokens by prompts and sequences together, the micro-batch by prompts. Without flash
    attention every token pays for the cells of all sequences: what several lose by that counts twice against what one
    gains. A load's settings go by generation and prompts. The width is the smallest that loses nothing to speak of.
    """
    if not trials:
        return LoadChoices()
    usual = trials[0]

    def best(name: str, gain: Callable[[Trial, Trial], float], worth: float = _WORTH) -> Trial | None:
        """The fastest of the trials that differ from the usual one in this."""
        others = [one for one in trials[1:] if getattr(one, name) != getattr(usual, name)]
        found = max(others, key=lambda one: gain(one, usual), default=usual)
        return found if gain(found, usual) > worth else None

    plain = best("flash_attention", _one_and_several)
    threads = best("threads", _least_generation, _WORTH_LESS_THREADS)
    batch_threads = best("batch_threads", _several, _WORTH_LESS_THREADS)
    ubatch = best("ubatch_tokens", _prompt)
    as_it_is = best("repack", _both, _WORTH_LOADING)
    unmapped = best("memory_map", _both, _WORTH_LOADING)
    return LoadChoices(
        flash_attention=None if plain is None else plain.flash_attention,
        threads=None if threads is None else threads.threads,
        batch_threads=None if batch_threads is None else batch_threads.batch_threads,
        ubatch_tokens=None if ubatch is None else ubatch.ubatch_tokens,
        width=width_of((plain or usual).wide_tokens_per_s),
        repack=None if as_it_is is None else as_it_is.repack,
        memory_map=None if unmapped is None else unmapped.memory_map,
    )


def width_of(rates: Sequence[tuple[int, float]]) -> int | None:
    """How many sequences to decode together, from total tokens a second by their number; None for no bound.

    The smallest number that comes near the best rate: those beyond it would only be slower each. None when that is the
    largest that was measured, since more may be better still.
    """
    narrow = [(count, rate) for count, rate in rates if count < _NARROW]
    wide = [(count, rate) for count, rate in rates if count >= _NARROW]
    if not wide:
        return None
    most = max(rate for _, rate in wide)
    if max((rate for _, rate in narrow), default=0.0) <= most * _WORTH_NARROWING:
        narrow = []
    candidates = sorted(narrow or wide)
    enough = max(rate for _, rate in candidates) / _SAME_RATE
    width = next(count for count, rate in candidates if rate >= enough)
    return None if width == max(count for count, _ in rates) else width


def _generation(new: Trial, old: Trial) -> float:
    return _mean(_ratios(new.tokens_per_s, old.tokens_per_s))


def _least_generation(new: Trial, old: Trial) -> float:
    return min(_ratios(new.tokens_per_s, old.tokens_per_s), default=0.0)


def _one_and_several(new: Trial, old: Trial) -> float:
    return _generation(new, old) * min(1.0, _wide(new, old)) ** 2


def _wide(new: Trial, old: Trial) -> float:
    """Of several sequences together; 1 where that was not measured."""
    several = [pair for pair in new.wide_tokens_per_s if pair[0] > 1]
    return _mean(_ratios(several, old.wide_tokens_per_s)) or 1.0


def _prompt(new: Trial, old: Trial) -> float:
    if not new.prompt_tokens_per_s or not old.prompt_tokens_per_s:
        return 0.0
    return new.prompt_tokens_per_s / old.prompt_tokens_per_s


def _several(new: Trial, old: Trial) -> float:
    """Of passes of more than one token: a prompt's, and those of sequences together."""
    return _mean([ratio for ratio in (_prompt(new, old), _wide(new, old)) if ratio])


def _both(new: Trial, old: Trial) -> float:
    """Of generation and prompts, where neither loses."""
    gains = [ratio for ratio in (_generation(new, old), _prompt(new, old)) if ratio]
    return _mean(gains) if min(gains, default=0.0) >= 1 / _NO_LOSS else 0.0


def _ratios(new: Iterable[tuple[int, float]], old: Iterable[tuple[int, float]]) -> list[float]:
    """New by old rates, where both were measured at the same number."""
    known = dict(old)
    return [rate / known[count] for count, rate in new if known.get(count)]


def _mean(ratios: Sequence[float]) -> float:
    """The geometric mean; 0 of nothing."""
    return prod(ratios) ** (1 / len(ratios)) if ratios else 0.0
