"""A stand-in for what looks after installed files."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lilliput.errors import ModelNotFound
from lilliput.services import Freshness, Job, Pruned, Verdict


@dataclass
class FakeUpkeep:
    """Verifications, garbage and freshness in one."""

    job: Job
    verdict: Verdict = field(default_factory=lambda: Verdict((), ()))
    pruned: Pruned = field(default_factory=lambda: Pruned((), (), 0))
    asked: list[Mapping[str, Any]] = field(default_factory=list)

    async def start(self, names: Sequence[str] = (), *, hub: bool = False) -> Job:
        if "missing" in names:
            raise ModelNotFound("the model 'missing' is not installed")
        self.asked.append({"names": tuple(names), "hub": hub})
        return self.job

    async def find(self, older_than_s: float = 0.0) -> Verdict:
        self.asked.append({"older_than_s": older_than_s})
        return self.verdict

    async def prune(self, older_than_s: float = 0.0, paths: Collection[str] | None = None) -> Pruned:
        self.asked.append({"older_than_s": older_than_s, "paths": paths})
        return self.pruned

    async def compare(self, names: Sequence[str] = ()) -> Sequence[Freshness]:
        self.asked.append({"names": tuple(names)})
        return tuple(Freshness(name, "up-to-date") for name in names)
