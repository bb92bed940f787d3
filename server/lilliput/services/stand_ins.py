"""Smaller installed variants that serve in place of one that cannot be loaded.

They serve names that leave the variant open. Who has named a variant gets that one or a refusal: nothing that somebody
asked for is changed. Nor is a variant replaced that makes vectors: those of two variants cannot be compared.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from lilliput.catalogue import FamilyName, HubName, InstalledModel, ModelName, parse_name
from lilliput.errors import BadName, DoesNotFit, LilliputError
from lilliput.fit import QualityTable, UseCase, UseCases, meets_floor
from lilliput.pool import Lease, Steps
from lilliput.services.agreements import ReadFacts, agreed
from lilliput.services.lookup import find_installed, same_model
from lilliput.services.plan_records import Plan
from lilliput.services.plan_request import PlanRequest
from lilliput.services.targets import Families
from lilliput.units import format_bytes

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 60.0, 600.0
"""So long a model that could not be loaded is not tried again while another variant serves; twice as long each time."""

PLAN_S = 5.0
"""A refusal does not wait longer than this to learn what could be pulled."""

LeaseOf = Callable[[InstalledModel], Awaitable[Lease]]


class Installed(ReadFacts, Protocol):
    """What is installed, and on what terms; calls may block and are made in threads."""

    def installed(self) -> tuple[InstalledModel, ...]:
        """All installed models."""
        ...


class Plans(Protocol):
    """What variants of a model would need."""

    async def plan(self, request: PlanRequest) -> Plan:
        """The plan of a model."""
        ...


@dataclass(slots=True)
class _Replaced:
    """A model that cannot be loaded, until when it is not tried again, and who serves in its place."""

    by: str
    because: str
    pause_s: float
    until_s: float


class StandIns:
    """Leases an engine of a model, or of the next smaller one that may serve in its place.

    ``clock`` is monotonic, in seconds.
    """

    def __init__(
        self,
        installed: Installed,
        families: Families,
        use_cases: UseCases,
        quality: QualityTable,
        plans: Plans,
        steps: Steps,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._installed = installed
        self._families = families
        self._use_cases = use_cases
        self._quality = quality
        self._plans = plans
        self._steps = steps
        self._clock = clock
        self._replaced: dict[str, _Replaced] = {}

    async def lease(self, model: InstalledModel, lease: LeaseOf, *, replaceable: bool) -> Lease:
        """What ``lease`` gives for ``model``, or, where that is ``replaceable``, for one that stands in for it.

        Then the lease says so among what is given up. Raises what ``lease`` raises; DoesNotFit lists what was tried and
        names a pull that would help.
        """
        known = self._replaced.get(model.name)
        if known is not None and replaceable and self._clock() < known.until_s:
            standing = [one for one in await self._smaller(model) if one.name == known.by]
            for one in standing:
                try:
                    return _told(await lease(one), _text(one, model, known.because))
                except DoesNotFit:
                    break  # less memory than ever: all is looked at again
        try:
            found = await lease(model)
        except DoesNotFit as refusal:
            return await self._instead(model, lease, refusal, replaceable=replaceable)
        self._replaced.pop(model.name, None)
        return found

    def given_up(self, name: str) -> tuple[str, ...]:
        """What to say of an engine that serves in place of others now."""
        now_s = self._clock()
        standing = {model: one for model, one in self._replaced.items() if one.by == name and now_s < one.until_s}
        return tuple(f"{name} in place of {model} (because {one.because})" for model, one in standing.items())

    async def _instead(self, model: InstalledModel, lease: LeaseOf, refusal: DoesNotFit, *, replaceable: bool) -> Lease:
        smaller = await self._smaller(model)
        tried: list[str] = []
        for one in smaller if replaceable else ():
            try:
                found = await lease(one)
            except DoesNotFit as error:
                tried.append(error.message)
                continue
            self._note(model, one, refusal)
            return _told(found, _text(one, model, refusal.message))
        message = "; ".join((refusal.message, *tried))
        hints = [f"ask for {smaller[0].name}, which is smaller and installed"] if smaller and not tried else []
        pull = await self._pull(model, refusal)
        hints += [pull] if pull else []
        hints += [refusal.hint] if refusal.hint else []
        raise DoesNotFit(
            message, need_bytes=refusal.need_bytes, budget_bytes=refusal.budget_bytes, hint=", or ".join(hints) or None
        ) from refusal

    def _note(self, model: InstalledModel, one: InstalledModel, refusal: DoesNotFit) -> None:
        before = self._replaced.get(model.name)
        pause_s = FIRST_PAUSE_S if before is None else min(2 * before.pause_s, LONGEST_PAUSE_S)
        self._replaced[model.name] = _Replaced(one.name, refusal.message, pause_s, self._clock() + pause_s)
        text = f"{one.name} serves in its place: {refusal.message}"
        self._steps.note("stand-in", model.name, text, before_bytes=model.size_bytes, after_bytes=one.size_bytes)

    async def _smaller(self, model: InstalledModel) -> Sequence[InstalledModel]:
        return await asyncio.to_thread(self._find_smaller, model)

    def _find_smaller(self, model: InstalledModel) -> Sequence[InstalledModel]:
        """Installed variants of the same model in smaller files, not below the floor of its use case, largest first."""
        open_name = _without_variant(model.name)
        if open_name is None:
            return ()
        floor = self._use_cases.get(agreed(self._installed, model.name).use_case)
        found = find_installed(open_name, self._installed.installed(), self._families)
        fitting = [
            one
            for one in found
            if same_model(one, model)
            and one.size_bytes < model.size_bytes
            and all(file.path.is_file() for file in one.files)
            and self._meets(floor, one, one.quantization, one.size_bytes)
        ]
        return sorted(fitting, key=lambda one: -one.size_bytes)

    async def _pull(self, model: InstalledModel, refusal: DoesNotFit) -> str | None:
        """The command that gets the best smaller variant; None where none would help, or nobody can tell in time.

        Nothing is asked of the Hub: what a quantization would give is known from the file that is here.
        """
        name = _without_variant(model.name)
        if name is None:
            return None
        request = PlanRequest(model.name, every_type=True, budget_bytes=max(1, refusal.budget_bytes))
        try:
            async with asyncio.timeout(PLAN_S):
                plan = await self._plans.plan(request)
        except (TimeoutError, LilliputError) as error:
            log.info("what could be pulled in place of %s is not known: %s", model.name, error)
            return None
        floor = self._use_cases.get(plan.use_case)
        offers = [
            one
            for one in plan.variants
            if one.fits and not one.exists and one.file_bytes < model.size_bytes and self._meets(floor, model, one.name)
        ]
        if not offers:
            return None
        best = next((one for one in offers if one.name == plan.chosen), offers[0])  # the best come first
        return f"pull a smaller variant: lilliput pull {name} --variant {best.name} ({format_bytes(best.file_bytes)})"

    def _meets(self, floor: UseCase, model: InstalledModel, quantization: str | None, size_bytes: int = 0) -> bool:
        bits = 8 * size_bytes / model.parameter_count if size_bytes and model.parameter_count else None
        architecture = model.architecture
        return meets_floor(self._quality, quantization, floor, file_bits_per_weight=bits, architecture=architecture)


def _told(lease: Lease, text: str) -> Lease:
    lease.degraded = (*lease.degraded, text)
    return lease


def _text(one: InstalledModel, model: InstalledModel, because: str) -> str:
    return f"{one.name} in place of {model.name} (because {because})"


def _without_variant(name: str) -> ModelName | None:
    """The name that leaves the variant open; None for a file, of which there is but one."""
    try:
        parsed = parse_name(name)
    except BadName:
        return None
    if isinstance(parsed, FamilyName):
        return FamilyName(parsed.family, parsed.size)
    return HubName(parsed.repo) if isinstance(parsed, HubName) else None
