"""Which settings run a model fastest on the daemon's machine."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LoadChoices:
    """Settings of a model's loads; None leaves one to the daemon. ``threads`` compute passes of one token,
    ``batch_threads`` all others; ``width`` sequences are decoded together, more wait.
    """

    flash_attention: bool | None = None
    threads: int | None = None
    batch_threads: int | None = None
    ubatch_tokens: int | None = None
    width: int | None = None
    repack: bool | None = None
    memory_map: bool | None = None
    memory_lock: bool | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting that was measured: tokens a second of one sequence behind so many tokens, of a prompt, and of so many
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
    """How the daemon loads a model: ``settings`` are what somebody has ``chosen``, else what was ``measured``.

    ``trials`` is empty before it was measured; ``disturbed``: other programs computed meanwhile, so that it tells
    little.
    """

    model: str
    settings: LoadChoices = field(default_factory=LoadChoices)
    measured: LoadChoices = field(default_factory=LoadChoices)
    chosen: LoadChoices = field(default_factory=LoadChoices)
    trials: tuple[Trial, ...] = ()
    disturbed: bool = False
