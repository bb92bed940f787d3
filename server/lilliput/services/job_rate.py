"""How fast bytes move now, and how long the rest will take: pure arithmetic over times that are passed in."""

from __future__ import annotations

from collections import deque

_WINDOW_S = 10.0
_STEP_S = 0.25
_SHORTEST_S = 0.5


class RateMeter:
    """Mean rate over the last ten seconds; the caller leaves out bytes that were there before (a resumed file)."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def reset(self) -> None:
        """Forget all samples: something else is measured from now on."""
        self._samples.clear()

    def add(self, now_s: float, moved_bytes: int) -> None:
        """Tell that ``moved_bytes`` had moved in all at ``now_s`` (monotonic); a count that goes back starts afresh."""
        samples = self._samples
        if samples and moved_bytes < samples[-1][1]:
            samples.clear()
        if len(samples) > 1 and now_s - samples[-2][0] < _STEP_S:
            samples.pop()  # the newest sample stands for its whole step, so that there are never many
        samples.append((now_s, moved_bytes))
        while len(samples) > 2 and now_s - samples[1][0] >= _WINDOW_S:
            samples.popleft()

    def rate_bytes_s(self) -> float | None:
        """Bytes a second, None while there is too little to say."""
        if len(self._samples) < 2:
            return None
        (start_s, start_bytes), (end_s, end_bytes) = self._samples[0], self._samples[-1]
        if end_s - start_s < _SHORTEST_S:
            return None
        return (end_bytes - start_bytes) / (end_s - start_s)


def eta_s(rate_bytes_s: float | None, completed_bytes: int | None, total_bytes: int | None) -> float | None:
    """Seconds until ``total_bytes`` at this rate, None when unknown."""
    if not rate_bytes_s or completed_bytes is None or total_bytes is None:
        return None
    return max(0, total_bytes - completed_bytes) / rate_bytes_s
