"""What an engine does now, from the totals that its frames bring."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from lilliput.engine.counters import Counters

WINDOW_S = 5.0
"""Rates are means over so many of the last seconds."""
_SPACING_S = 0.25


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Rates a second over the last WINDOW_S seconds, means of a pass (None: there was none), and the totals by name.

    Cells hold one token each; those of idle prefixes count as used.
    """

    prefill_tokens_s: float
    decode_tokens_s: float
    steps_s: float
    mean_step_s: float | None
    mean_batch_tokens: float | None
    kv_cells_used: int
    kv_cells: int
    totals: Mapping[str, Any]


class Meter:
    """Remembers a few of the latest totals; ``note`` costs a clock and a comparison. ``clock`` gives seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._latest = Counters()
        self._cells = 0
        self._noted = False
        # What the totals were before the first frame at a time.
        self._history: deque[tuple[float, Counters]] = deque(maxlen=int(WINDOW_S / _SPACING_S) + 2)

    def note(self, counters: Counters, cells: int) -> None:
        """Take in what a frame brought; ``counters`` must not change afterwards."""
        now = self._clock()
        if not self._noted or now - self._history[-1][0] >= _SPACING_S:
            self._history.append((now, self._latest))
            self._noted = True
        self._latest = counters
        self._cells = cells

    def stats(self, kv_cells: int) -> EngineStats | None:
        """What the engine of ``kv_cells`` cells does; None before its first frame."""
        if not self._noted:
            return None
        latest, before, span_s = self._latest, self._latest, WINDOW_S
        now = self._clock()
        for then, totals in self._history:
            if now - then <= WINDOW_S:
                before = totals
                break
        steps = latest.steps - before.steps
        prefill = latest.prefill_tokens - before.prefill_tokens
        decode = latest.decode_tokens - before.decode_tokens
        drafted = latest.drafted_tokens - before.drafted_tokens
        accepted = latest.accepted_tokens - before.accepted_tokens
        return EngineStats(
            prefill_tokens_s=prefill / span_s,
            decode_tokens_s=(decode + accepted) / span_s,
            steps_s=steps / span_s,
            mean_step_s=(latest.step_s - before.step_s) / steps if steps else None,
            mean_batch_tokens=(prefill + decode + drafted) / steps if steps else None,
            kv_cells_used=min(self._cells, kv_cells),
            kv_cells=kv_cells,
            totals=msgspec.structs.asdict(latest),
        )
