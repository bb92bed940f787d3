"""What happened in a soak of the daemon, and whether it was as it should be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from tests.support.footprint import Footprint

from lilliput.units import MIB

GROWTH = 1.05
"""What the daemon may have resident at the end, as a part of what it had after the warm-up."""

MORE_FILES, MORE_THREADS = 8, 8
"""What may be open or run beyond that: connections of one who just looked, threads of a pool that grows once."""


@dataclass
class Tally:
    """Outcomes by act, and those among them that nobody foresaw."""

    outcomes: dict[str, Counter[str]] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    unforeseen: list[str] = field(default_factory=list)
    pids: set[int] = field(default_factory=set)

    def note(self, act: str, outcome: str, foreseen: Mapping[str, frozenset[str]], detail: str = "") -> None:
        """One more outcome of an act."""
        self.outcomes.setdefault(act, Counter())[outcome] += 1
        if outcome not in foreseen[act]:
            self.unforeseen.append(f"{act}: {outcome} {detail}".rstrip())

    @property
    def requests(self) -> int:
        """How much was done in all."""
        return sum(sum(found.values()) for found in self.outcomes.values())


@dataclass(frozen=True, slots=True)
class End:
    """The daemon at rest, after the warm-up and at the end; and what was left when it had been told to stop."""

    first: Footprint
    last: Footprint
    orphans: int
    tracebacks: tuple[str, ...]
    status: int


def tracebacks_of(log: str) -> tuple[str, ...]:
    """Each kind of traceback in a daemon's log once: where it came from and what was raised."""
    found = []
    for one in log.split("Traceback (most recent call last):\n")[1:]:
        lines = one.splitlines()
        end = next((at for at, line in enumerate(lines) if not line.startswith(" ")), len(lines) - 1)
        found.append(" | ".join(line.strip() for line in lines[max(0, end - 4) : end + 1]))
    return tuple(dict.fromkeys(found))


def problems(tally: Tally, end: End) -> list[str]:
    """What is not as it should be, in words."""
    found = list(dict.fromkeys(tally.unforeseen))[:20]
    first, last = end.first, end.last
    if last.resident_bytes > first.resident_bytes * GROWTH:
        found.append(f"the daemon has grown from {first.resident_bytes:,} to {last.resident_bytes:,} bytes")
    if last.files > first.files + MORE_FILES:
        found.append(f"{last.files} open files at the end, {first.files} after the warm-up")
    if last.threads > first.threads + MORE_THREADS:
        found.append(f"{last.threads} threads at the end, {first.threads} after the warm-up")
    if last.children:
        found.append(f"{last.children} children at rest")
    if end.orphans:
        found.append(f"{end.orphans} orphans")
    found += [f"a traceback in the log: {one}" for one in end.tracebacks]
    if end.status:
        found.append(f"the daemon ended with status {end.status}")
    return found


def report(tally: Tally, end: End, seconds: float) -> str:
    """The figures in a few lines."""
    first, last = end.first, end.last
    acts = (f"  {act}: {_shown(found)}" for act, found in sorted(tally.outcomes.items()))
    return "\n".join(
        (
            f"{seconds:.0f} s, {tally.requests} requests, {sum(tally.faults.values())} faults: {_shown(tally.faults)}",
            *acts,
            f"daemon {first.resident_bytes / MIB:.1f} MiB after the warm-up, {last.resident_bytes / MIB:.1f} at the end"
            f" ({last.resident_bytes / first.resident_bytes - 1:+.1%})",
            f"{first.files} then {last.files} files, {first.threads} then {last.threads} threads,"
            f" {last.children} children at rest, {end.orphans} orphans",
        )
    )


def _shown(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(found.items(), key=lambda item: -item[1]))
