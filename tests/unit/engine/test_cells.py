from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from lilliput.engine.cells import Entry, become_idle, cut, lose, running_overlap, share
from lilliput.engine.sequence import Sequence


class Pool:
    """Entries beside what the library would do: a set of cells for each, of which copies are the same ones."""

    def __init__(self) -> None:
        self.cells: dict[Entry, list[int]] = {}
        self._new = itertools.count()

    @property
    def running(self) -> list[Entry]:
        return [one for one in self.cells if one.owner is not None]

    @property
    def idle(self) -> list[Entry]:
        return [one for one in self.cells if one.owner is None]

    def enter(self, source: Entry | None, count: int, more: int) -> None:
        one = Entry(0, Sequence(0, [], 0))
        assert one.owner is not None
        copied = self.cells[source][:count] if source is not None else []
        if source is not None:
            held = {cell for other in self.running for cell in self.cells[other]}
            assert running_overlap(source, len(copied)) == len(held.intersection(copied))
            share(one, source, len(copied))
        self.cells[one] = copied
        self.grow(one, more)

    def grow(self, one: Entry, more: int) -> None:
        assert one.owner is not None
        self.cells[one] = [*self.cells[one], *itertools.islice(self._new, more)]
        one.owner.decoded = len(self.cells[one])

    def rest(self, one: Entry) -> None:
        become_idle(one, self.cells)
        one.kept, one.owner = self.cells[one], None

    def take_over(self, one: Entry, count: int, more: int) -> None:
        count = min(count, len(one.kept))
        cut(one, count, self.cells)
        one.owner = Sequence(0, [], 0, decoded=count)
        share(one, one.source, one.shared)
        self.cells[one] = self.cells[one][:count]
        self.grow(one, more)

    def leave(self, one: Entry) -> None:
        lose(one, self.cells)
        del self.cells[one]

    def start_over(self, one: Entry) -> None:
        assert one.owner is not None
        lose(one, self.cells)
        one.owner.decoded, self.cells[one] = 0, []

    def check(self) -> None:
        for entries in (self.running, [*self.cells]):
            held = {cell for one in entries for cell in self.cells[one]}
            assert sum(one.own_cells for one in entries) == len(held)
        for one in self.cells:
            if one.source is not None:
                assert self.cells[one][: one.shared] == self.cells[one.source][: one.shared]
                assert one.owner is None or one.source.owner is not None


STEPS = st.lists(st.tuples(st.sampled_from("ecccrrtlog"), st.integers(0, 9), st.integers(0, 12), st.integers(0, 5)))


@given(STEPS)
def test_each_cell_is_charged_to_one_entry_and_to_a_running_one_where_it_can(
    steps: list[tuple[str, int, int, int]],
) -> None:
    pool = Pool()
    for kind, which, count, more in steps:
        entries = {"c": [*pool.cells], "l": [*pool.cells], "t": pool.idle}.get(kind, pool.running)
        one = entries[which % len(entries)] if entries else None
        if kind == "e":
            pool.enter(None, 0, more)
        elif one is None:
            continue
        elif kind == "c":
            pool.enter(one, count, more)
        elif kind == "r":
            pool.rest(one)
        elif kind == "t":
            pool.take_over(one, count, more)
        elif kind == "l":
            pool.leave(one)
        elif kind == "o":
            pool.start_over(one)
        else:
            pool.grow(one, more)
        pool.check()


def test_who_shares_most_of_what_goes_is_charged_for_it() -> None:
    pool = Pool()
    pool.enter(None, 0, 100)
    (leader,) = pool.running
    for count in (60, 80):
        pool.enter(leader, count, 1)
    _, short, long = pool.running
    assert [one.own_cells for one in (leader, short, long)] == [100, 1, 1]
    pool.leave(leader)
    assert [one.own_cells for one in (short, long)] == [1, 81]
