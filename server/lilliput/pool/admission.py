"""Who may still join the requests at one engine, and when it makes sense to ask again. Pure: times are passed in.

The places are those that run and those of the queue. Whoever is alone may hold all of them. Where several callers hold
some, one that holds no more than an equal part is let in even when all are taken, for the others drain to theirs; in no
case are there more than twice as many.
"""

from __future__ import annotations

from collections import Counter, deque

from lilliput.errors import Busy, TooManyRequests

WINDOW_S = 60.0
"""How far back ends of requests count for the rate."""

SHORTEST_S, LONGEST_S = 1.0, 60.0
"""Bounds of what a client is told to wait."""

_MOST_ENDS = 1024


class Turnover:
    """How fast requests end at one engine while it has any."""

    def __init__(self) -> None:
        self._ends: deque[tuple[float, int]] = deque()
        self._ended = 0
        self._busy_since_s: float | None = None
        self._former: float | None = None

    def begin(self, now_s: float) -> None:
        """Somebody uses it; those after the first do not matter."""
        if self._busy_since_s is None:
            self._busy_since_s = now_s
            self._ends.clear()
            self._ended = 0

    def end(self, now_s: float, count: int, *, idle: bool) -> None:
        """So many sequences have ended; nobody uses it any more where it is ``idle``."""
        self._ends.append((now_s, count))
        self._ended += count
        if len(self._ends) > _MOST_ENDS:
            self._ended -= self._ends.popleft()[1]
        if idle:
            self._former, self._busy_since_s = self.rate_s(now_s), None

    def rate_s(self, now_s: float) -> float | None:
        """Sequences that ended by second of work, in the last minute of it or before; None while none has."""
        if self._busy_since_s is None:
            return self._former
        begin_s = max(self._busy_since_s, now_s - WINDOW_S)
        if len(self._ends) == _MOST_ENDS:
            begin_s = max(begin_s, self._ends[0][0])
        while self._ends and self._ends[0][0] < begin_s:
            self._ended -= self._ends.popleft()[1]
        return self._ended / (now_s - begin_s) if self._ended and now_s > begin_s else self._former

    def wait_s(self, count: int, now_s: float) -> float:
        """When so many will have ended: by the rate, else as long as the first ones have been at work already."""
        rate_s = self.rate_s(now_s)
        if rate_s is not None:
            return count / rate_s
        return 0.0 if self._busy_since_s is None else now_s - self._busy_since_s


class Places:
    """Who holds how many places at one engine: sequences that run or wait."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()
        self.turnover = Turnover()

    @property
    def total(self) -> int:
        """All that are held."""
        return self._held.total()

    @property
    def by_caller(self) -> tuple[int, ...]:
        """What each caller holds, the most first."""
        return tuple(sorted(self._held.values(), reverse=True))

    def take(self, caller: str, count: int) -> None:
        """Hold places."""
        self._held[caller] += count

    def give(self, caller: str, count: int) -> None:
        """Give places back."""
        self._held[caller] -= count
        if self._held[caller] <= 0:
            del self._held[caller]

    def refusal(self, caller: str, count: int, *, slots: int, queue_limit: int, caller_limit: int | None) -> str | None:
        """Why ``caller`` may not hold so many more: ``caller`` for its own limit, ``queue``, or None where it may.

        A request that has the engine, or its caller's part of it, to itself may be larger.
        """
        before, own_before = self.total, self._held[caller]
        total, own = before + count, own_before + count
        if caller_limit is not None and own_before and own > caller_limit:
            return "caller"
        places = slots + queue_limit
        if not before or total <= places:
            return None
        callers = len(self._held) + (caller not in self._held)
        return None if own <= places // callers and total <= 2 * places else "queue"

    def refuse_when_full(
        self,
        name: str,
        caller: str,
        count: int,
        *,
        slots: int,
        queue_limit: int,
        caller_limit: int | None,
        now_s: float,
        loads_s: float,
    ) -> None:
        """Raise Busy or TooManyRequests where there is no place; ``loads_s`` more its load will take."""
        why = self.refusal(caller, count, slots=slots, queue_limit=queue_limit, caller_limit=caller_limit)
        if why is None:
            return
        position = self.total + count - slots
        own = self._held[caller]
        too_many = position - queue_limit if why == "queue" else own + count - (caller_limit or 0)
        wait_s = within_bounds(loads_s + self.turnover.wait_s(max(1, too_many), now_s))
        when = f"a place is likely to be free in {wait_s:.0f} s"
        if why == "caller":
            raise TooManyRequests(
                f"{own} of your sequences run or wait at {name} already, {caller_limit} may",
                retry_after_s=wait_s,
                hint=f"wait for some of their answers; {when}",
            )
        raise Busy(
            f"the queue of {name} has {queue_limit} places, this request would be number {position}",
            retry_after_s=wait_s,
            hint=f"try again a little later; {when}",
        )


def within_bounds(wait_s: float) -> float:
    """What a client is told to wait, in seconds."""
    return min(max(wait_s, SHORTEST_S), LONGEST_S)


def load_left_s(elapsed_s: float, progress: float) -> float:
    """How long a load will take from now on: by the part of the file that is there, else as long as it took so far."""
    return elapsed_s * (1 - progress) / progress if progress > 0 else elapsed_s
