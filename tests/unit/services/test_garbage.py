"""What counts as garbage."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lilliput.services.garbage import WEEK_S, Found, Kind, Needs, judge

NOW = 1_700_000_000.0
DAY_S = 86400.0
KINDS: tuple[Kind, ...] = ("model", "part", "link", "prefix", "temporary")


def found(name: str, days: float = 8, kind: Kind = "model", size_bytes: int = 10, *more: str) -> Found:
    path = Path("/data") / name
    return Found(path, kind, size_bytes, NOW - days * DAY_S, frozenset({str(path), *more}))


def test_old_files_that_nobody_needs_go_the_largest_first() -> None:
    small, large = found("a"), found("b", size_bytes=20)
    verdict = judge([small, large], Needs(), now=NOW)
    assert [judged.found for judged in verdict.garbage] == [large, small]
    assert verdict.size_bytes == 30
    assert {judged.age_s for judged in verdict.garbage} == {8 * DAY_S}


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_told_why(kind: Kind) -> None:
    (judged,) = judge([found("a", kind=kind)], Needs(), now=NOW).garbage
    assert len(judged.why) > 15


def test_nothing_younger_than_a_week_goes_by_itself() -> None:
    edge = [found("young", 6.99), found("old", 7), found("future", -3)]
    verdict = judge(edge, Needs(), now=NOW)
    assert [judged.found.path.name for judged in verdict.garbage] == ["old"]
    assert {(judged.found.path.name, judged.why) for judged in verdict.kept} == {
        ("young", "younger than 7 days"),
        ("future", "younger than 7 days"),
    }
    assert len(judge(edge, Needs(), now=NOW, older_than_s=0).garbage) == 3
    (kept,) = judge([found("a", 1)], Needs(), now=NOW, older_than_s=36 * 3600.0).kept
    assert kept.why == "younger than 36 hours"


def test_what_is_used_is_told_as_neither_and_what_is_at_work_as_kept() -> None:
    used, at_work = found("a", 99, "model", 10, "digest"), found("b", 99, "part", 10, "org/repo")
    verdict = judge([used, at_work], Needs(frozenset({"digest"}), frozenset({"org/repo"})), now=NOW)
    assert verdict.garbage == ()
    assert [(judged.found, judged.why) for judged in verdict.kept] == [(at_work, "a job works on it")]


def test_no_part_goes_while_a_pull_has_not_told_its_files() -> None:
    files = [found("part", kind="part"), found("blob"), found("state", kind="prefix")]
    verdict = judge(files, Needs(any_part=True), now=NOW, older_than_s=0)
    assert [judged.found.kind for judged in verdict.garbage] == ["prefix"]


@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.floats(-9, 60), st.frozensets(st.sampled_from("abcdef")))),
    st.frozensets(st.sampled_from("abcdef")),
    st.frozensets(st.sampled_from("abcdef")),
    st.floats(0, 2 * WEEK_S),
)
def test_garbage_is_never_needed_or_young(
    files: list[tuple[Kind, float, frozenset[str]]], used: frozenset[str], at_work: frozenset[str], older_than_s: float
) -> None:
    listed = [found(str(index), days, kind, 1, *names) for index, (kind, days, names) in enumerate(files)]
    verdict = judge(listed, Needs(used, at_work), now=NOW, older_than_s=older_than_s)
    for judged in verdict.garbage:
        assert not judged.found.names & (used | at_work)
        assert max(0.0, NOW - judged.found.changed_at) >= older_than_s
    told = [judged.found for judged in (*verdict.garbage, *verdict.kept)]
    assert {one.path for one in listed if not one.names & used} == {one.path for one in told}
