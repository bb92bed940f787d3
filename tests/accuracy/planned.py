"""What the planner says of a model's variants before any of them exists, and how an engine would load them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from tests.accuracy.settings import FLASH, LoadSetting
from tests.accuracy.variants import Source
from tests.support.planner import Remembered, make_planner

from lilliput.engine import verdict_key
from lilliput.fit import RAM
from lilliput.gguf import Tensor
from lilliput.hardware import fingerprint, read_cpu
from lilliput.llama import ContextSettings, Rung, build_digest
from lilliput.pool import LoadPlan
from lilliput.services import Oracle, PlanDefaults, Planner, PlanRequest, Repacks
from lilliput.services.model_facts import ModelFacts, facts_of
from lilliput.services.settings_grid import idle_sequences
from lilliput.services.tuning_choice import LoadChoices
from lilliput.services.variant_offers import Entry
from lilliput.units import GIB

_ROOM = {RAM: 64 * GIB}
"""So much that a plan gives nothing up."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a plan says of main memory, in bytes: ``held`` are all weights that the process shows."""

    held: int
    kv: int
    compute: int
    pss: int


class VariantPlans:
    """Plans of one model's variants on this machine, by the planner that the daemon has; ``rung`` holds here."""

    def __init__(self, source: Source, rung: Rung) -> None:
        self._source = source
        self._rung = rung
        self._verdicts, self._answers = Remembered(), Remembered()
        self._machine, self._build = fingerprint(read_cpu()), build_digest()
        self._repacks = Repacks(self._verdicts, self._machine, self._build, [rung])
        self._model = facts_of([source.header()], source.path.stat().st_size)
        self._variants: dict[str, ModelFacts] = {}
        self._told: dict[tuple[str, int, int, str, str, int], Told] = {}

    async def learn(self, kinds: Iterable[str]) -> Mapping[str, tuple[Tensor, ...]]:
        """The tensors of each kind, which has to be asked about before it is planned."""
        made = [kind for kind in kinds if kind != self._source.original]
        _, oracle = make_planner(facts=self._answers)
        answers = await oracle.ask(self._model.digest, self._model.header, [], made)
        assert set(answers.mixes) == set(made), answers.refusals
        self._variants[self._source.original] = self._model
        for kind, tensors in answers.mixes.items():
            self._variants[kind] = facts_of([replace(self._model.header, tensors=tensors)], 0)
        for facts in self._variants.values():
            self._verdicts.set_fact(verdict_key(self._machine, self._build, facts.header.tensor_types), self._rung)
        return {kind: facts.parts[0] for kind, facts in self._variants.items()}

    def sequences(self, setting: LoadSetting) -> int:
        """Those of a context: the slots, and those kept for their prefixes."""
        return setting.slots + idle_sequences(self._model.shape)

    def context(self, kind: str, setting: LoadSetting) -> ContextSettings:
        """The context as the pool has an engine make it."""
        plan = LoadPlan(
            setting.context_tokens,
            setting.slots,
            self.sequences(setting),
            {},
            self._variants[kind].header.tensor_types,
            kv_type=setting.kv_type,
            flash_attention=FLASH[setting.flash],
            ubatch_tokens=setting.ubatch_tokens,
        )
        return plan.context(threads=1)

    async def of(self, kind: str, setting: LoadSetting, *, used: bool = False) -> Told:
        """The plan of a variant; with ``used`` that of a context of so many cells as the measured load looks at."""
        cells = setting.used_cells(self.sequences(setting)) if used else setting.context_tokens
        key = (kind, cells, setting.slots, setting.kv_type, setting.flash, setting.ubatch_tokens)
        known = self._told.get(key)
        if known is None:
            ask = self._as_tuned if setting.flash != "auto" else self._as_asked
            known = self._told[key] = await ask(kind, cells, setting)
        return known

    async def _as_asked(self, kind: str, cells: int, setting: LoadSetting) -> Told:
        """As anybody's plan."""
        planner, _ = self._planner(setting)
        request = PlanRequest(kind, context_tokens=cells, slots=setting.slots, kv_type=setting.kv_type)
        variant = (await planner.judge(request, self._model, [self._entry(kind)], None)).plan.variant(kind)
        assert variant.pss_bytes is not None
        assert not variant.estimated
        need = variant.need[RAM]
        return Told(need.weights + need.weights_idle, need.kv, need.compute, variant.pss_bytes)

    async def _as_tuned(self, kind: str, cells: int, setting: LoadSetting) -> Told:
        """As a file is loaded for which flash attention was tried."""
        planner, _ = self._planner(setting)
        request = PlanRequest(kind, context_tokens=cells, slots=setting.slots)
        tuned = LoadChoices(flash_attention=FLASH[setting.flash], ubatch_tokens=setting.ubatch_tokens)
        found = await planner.to_load(request, self._model, self._entry(kind), _ROOM, named=True, tuned=tuned)
        option = found.option
        assert option is not None
        assert (option.setting.context_tokens, option.setting.kv_type) == (cells, setting.kv_type)
        need = option.needs[RAM]
        return Told(need.weights_bytes + need.idle_bytes, need.kv_bytes, need.compute_bytes, need.resident_bytes)

    def _planner(self, setting: LoadSetting) -> tuple[Planner, Oracle]:
        defaults = PlanDefaults(ubatch_tokens=setting.ubatch_tokens)
        return make_planner(defaults, facts=self._answers, repacks=self._repacks)

    def _entry(self, kind: str) -> Entry:
        facts = self._variants[kind]
        return Entry(kind, kind, (), facts.file_bytes, facts=facts)
