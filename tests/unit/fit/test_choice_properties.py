from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.fit.offers import CASES, TABLE, budget

from lilliput.fit import Budget, MemoryNeed, Option, Rank, Setting, Speed, Wish, choose, combine
from lilliput.fit.joint import Choice
from lilliput.fit.objective import LOSS_STEP, losses_of, rank
from lilliput.fit.options import Candidate

DEVICES = ("ram", "Vulkan0", "CUDA0")
TYPES = [
    "F16",
    "BF16",
    "Q8_0",
    "Q6_K",
    "Q5_1",
    "Q4_K_M",
    "Q4_1",
    "Q4_0",
    "Q3_K_S",
    "IQ2_M",
    "UD-Q4_K_XL",
    "MXFP4",
    None,
]
SIZES = st.integers(0, 600)
CONTEXTS, SLOTS, KV_TYPES, LAYERS = (8192, 4096, 512), (8, 4, 1), ("f16", "q8_0", "q4_0"), (0, 12, 33)


def settings() -> st.SearchStrategy[Setting]:
    return st.builds(
        Setting,
        st.sampled_from(CONTEXTS),
        st.sampled_from(SLOTS),
        st.sampled_from(KV_TYPES),
        st.sampled_from(LAYERS),
        st.sampled_from((0, 12)),
    )


@st.composite
def options(draw: st.DrawFn, kind: str | None, setting: Setting) -> Option:
    devices = DEVICES[: 1 if setting.gpu_layers == 0 else draw(st.integers(1, 3))]
    needs = {name: MemoryNeed(draw(SIZES), draw(st.integers(0, 100)), 0, 0) for name in devices}
    mid = draw(st.none() | st.floats(0.5, 60))
    speed = None if mid is None else Speed(mid * 0.8, mid, mid * 1.2)
    quality = combine(TABLE.of(kind), TABLE.of_kv(setting.kv_type))
    offload = "none" if not setting.gpu_layers else "full" if setting.gpu_layers == 33 else "partial"
    margins = {name: draw(st.integers(0, 60)) for name in devices} if draw(st.booleans()) else {}
    split = (1.0,) * (len(devices) - 1)
    estimated = bool(margins)
    return Option(setting, needs, offload, speed, None, quality, estimated, split, margins)  # type: ignore[arg-type]


@st.composite
def candidates(draw: st.DrawFn) -> list[Candidate]:
    names = draw(st.lists(st.sampled_from("abcdefgh"), unique=True, min_size=1, max_size=5))
    found = []
    for name in names:
        kind = draw(st.sampled_from(TYPES))
        some = draw(st.lists(settings(), unique=True, min_size=1, max_size=4))
        problem = draw(st.sampled_from([None, None, None, "broken"]))
        exists = draw(st.sampled_from([True, True, True, False]))
        made = tuple(draw(options(kind, setting)) for setting in some)
        found.append(Candidate(name, kind, draw(st.integers(1, 9)), made, problem, exists))
    return found


HOLDINGS = st.dictionaries(st.sampled_from(DEVICES), st.integers(1, 900), min_size=1)

WISHES = st.builds(
    Wish,
    use_case=st.sampled_from(CASES.all),
    context_tokens=st.sampled_from(CONTEXTS),
    slots=st.sampled_from(SLOTS),
    context_pinned=st.sampled_from((False, False, True)),
    slots_pinned=st.sampled_from((False, False, False, True)),
    kv_type=st.sampled_from((None, None, None, None, *KV_TYPES)),
    gpu_layers=st.sampled_from((None, None, None, None, *LAYERS)),
    names=st.sampled_from((None, None, None, frozenset("ab"), frozenset("bcdef"))),
)


@dataclass(frozen=True, slots=True)
class Case:
    candidates: list[Candidate]
    budgets: dict[str, Budget]
    wish: Wish
    unified: frozenset[str]

    def room(self, device: str) -> int:
        """Bytes on a device: none on one that is not there."""
        return self.budgets[device].budget_bytes if device in self.budgets else 0

    def ask(self, **changes: Any) -> Choice:
        given = {name: getattr(self, name) for name in ("candidates", "budgets", "wish", "unified")} | changes
        first = (given.pop("candidates"), given.pop("budgets"), given.pop("wish"))
        return choose(*first, table=TABLE, **given)

    def worth(self, choice: Choice) -> tuple[bool, Rank] | None:
        return None if choice.chosen is None else self.worth_of(choice.chosen.candidate, choice.chosen.option)

    def worth_of(self, candidate: Candidate, option: Option | None) -> tuple[bool, Rank]:
        """Whether the KV cache takes nothing below the floor, then the rank."""
        assert option is not None
        losses = losses_of(self.candidates, TABLE, None, self.wish.use_case)
        kv_loss = losses.kv(option.setting.kv_type)
        start = TABLE.loss(self.wish.use_case.start)
        loss = losses.variant(candidate) + kv_loss
        place = rank(option, loss, self.wish, start_loss=start, accelerated=len(self.budgets) > 1)
        return kv_loss < LOSS_STEP or losses.meets_floor(candidate, kv_loss), place

    def may_take(self) -> list[tuple[Candidate, Option]]:
        """What may be taken, judged anew and simply."""
        floor = TABLE.loss(self.wish.use_case.floor)
        found = []
        for one in self.candidates:
            if one.problem is not None or not one.exists:
                continue
            if self.wish.names is not None and one.name not in self.wish.names:
                continue
            for option in one.options:
                bits = option.quality.bits_per_weight
                loss = TABLE.loss(one.quantization, bits) + (TABLE.of_kv(option.setting.kv_type).kld or 0)
                good = self.wish.names is not None or loss <= floor or one.quantization == self.wish.use_case.floor
                plain = option.setting.kv_type == "f16" or self.wish.names is not None or loss < floor + LOSS_STEP
                claims = option.claims(self.unified)
                fits = all(
                    size <= self.budgets[name].budget_bytes for name, size in claims.items() if name in self.budgets
                )
                if good and plain and fits and set(claims) <= set(self.budgets) and self.wish.allows(option.setting):
                    found.append((one, option))
        return found


@st.composite
def cases(draw: st.DrawFn) -> Case:
    names = DEVICES[: draw(st.integers(1, 3))]
    budgets = {name: budget(draw(st.integers(200, 1500))) for name in names}
    unified = draw(st.sampled_from([frozenset[str](), frozenset({"Vulkan0"})]))
    return Case(draw(candidates()), budgets, draw(WISHES), unified)


@given(cases(), st.lists(st.integers(0, 1500), min_size=3, max_size=3))
def test_more_memory_never_gives_a_worse_choice(case: Case, more: list[int]) -> None:
    grown = {
        name: budget(one.budget_bytes + extra) for (name, one), extra in zip(case.budgets.items(), more, strict=False)
    }
    before, after = case.worth(case.ask()), case.worth(case.ask(budgets=grown))
    if before is not None:
        assert after is not None
        assert after >= before


@given(cases())
def test_the_chosen_never_exceeds_a_budget_nor_changes_what_is_pinned(case: Case) -> None:
    chosen = case.ask().chosen
    if chosen is None:
        return
    assert chosen.option is not None
    assert chosen.fits
    assert chosen.candidate.exists
    assert chosen.candidate.problem is None
    margins = chosen.option.margins
    for name, need in chosen.option.needs.items():
        assert need.total_bytes + margins.get(name, 0) <= case.room(name)
    system = {"ram", *case.unified}
    shared = sum(
        need.total_bytes + margins.get(name, 0) for name, need in chosen.option.needs.items() if name in system
    )
    assert shared <= case.budgets["ram"].budget_bytes
    setting, wish = chosen.option.setting, case.wish
    assert not wish.context_pinned or setting.context_tokens == wish.context_tokens
    assert not wish.slots_pinned or setting.slots == wish.slots
    assert wish.kv_type in (None, setting.kv_type)
    assert wish.gpu_layers in (None, setting.gpu_layers)
    assert wish.names is None or chosen.candidate.name in wish.names


@given(cases())
def test_if_anything_may_be_taken_then_the_best_of_it_is(case: Case) -> None:
    choice, may = case.ask(), case.may_take()
    if may:
        assert choice.chosen is not None
        assert case.worth(choice) >= max(case.worth_of(*one) for one in may)  # type: ignore[operator]
    if choice.chosen is not None and choice.chosen.candidate.quantization != case.wish.use_case.floor:
        lost = TABLE.loss(choice.chosen.candidate.quantization, choice.chosen.option.quality.bits_per_weight)  # type: ignore[union-attr]
        assert case.wish.names is not None or lost <= TABLE.loss(case.wish.use_case.floor) * 1.02


@given(cases())
def test_what_is_surely_known_gives_no_worse_a_choice_than_an_estimate(case: Case) -> None:
    known = [
        replace(one, options=tuple(replace(option, margins={}) for option in one.options)) for one in case.candidates
    ]
    before, after = case.worth(case.ask()), case.worth(case.ask(candidates=known))
    if before is not None:
        assert after is not None
        assert after >= before


@given(cases(), st.dictionaries(st.sampled_from(["x:1b", "y:2b"]), HOLDINGS, min_size=1))
def test_what_is_said_to_fit_when_an_engine_is_unloaded_does(case: Case, busy: dict[str, dict[str, int]]) -> None:
    named = re.compile("fits if `(.+?)`(?: and `(.+?)`)? (?:is|are) unloaded")
    taken = {name: sum(held.get(name, 0) for held in busy.values()) for name in case.budgets}
    rooms = {
        name: replace(one, total_bytes=one.total_bytes + taken[name], held_bytes=taken[name])
        for name, one in case.budgets.items()
    }
    for verdict in case.ask(budgets=rooms, busy=busy).verdicts:
        for way in verdict.near_misses:
            if (found := named.match(way)) is None:
                continue
            assert verdict.option is not None
            gone = [name for name in found.groups() if name is not None]
            for name, size in verdict.option.claims(case.unified).items():
                freed = sum(busy[one].get(name, 0) for one in gone)
                assert size <= freed + (rooms[name].budget_bytes if name in rooms else 0)


@given(cases(), st.randoms())
def test_the_order_of_candidates_and_options_is_irrelevant(case: Case, random: Any) -> None:
    shuffled = [replace(one, options=tuple(random.sample(one.options, len(one.options)))) for one in case.candidates]
    random.shuffle(shuffled)
    one, other = case.ask(), case.ask(candidates=shuffled)
    assert [(v.candidate.name, v.option, v.fits, v.reason, v.near_misses) for v in one.verdicts] == [
        (v.candidate.name, v.option, v.fits, v.reason, v.near_misses) for v in other.verdicts
    ]
    assert (one.summary, one.objective) == (other.summary, other.objective)


@given(cases(), st.dictionaries(st.sampled_from(["x:1b", "y:2b"]), HOLDINGS))
def test_every_verdict_has_a_reason_and_what_fits_fits(case: Case, busy: dict[str, dict[str, int]]) -> None:
    choice = case.ask(busy=busy)
    assert sorted(one.candidate.name for one in choice.verdicts) == sorted(one.name for one in case.candidates)
    assert choice.summary
    for one in choice.verdicts:
        assert one.reason
        assert all(way.startswith("fits") for way in one.near_misses)
        assert one.option is None or one.option in one.candidate.options
        assert one.fits == (one.reason.startswith("fits") or one is choice.chosen)
        if one.fits:
            assert one.option is not None
            for name, size in one.option.claims(case.unified).items():
                assert size <= case.room(name)
