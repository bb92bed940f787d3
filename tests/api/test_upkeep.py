"""Verifications, garbage and what the Hub has newer, over HTTP."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from tests.api.fakes import Fakes

from lilliput.services import Pruned, Verdict
from lilliput.services.garbage import WEEK_S, Found, Judged

JUDGED = Judged(Found(Path("/data/m.gguf"), "model", 5, 100.0, frozenset({"/data/m.gguf"})), 50.0, "nobody needs it")
JUDGED_JSON = {
    "path": "/data/m.gguf",
    "kind": "model",
    "size_bytes": 5,
    "changed_at": 100.0,
    "age_s": 50.0,
    "why": "nobody needs it",
}


async def test_a_verification_is_accepted_as_a_job(http: httpx.AsyncClient, fakes: Fakes) -> None:
    answer = await http.post("/lilliput/verifications", json={"models": ["a", "b"], "hub": True})
    assert (answer.status_code, answer.headers["location"]) == (202, "/lilliput/jobs/job-1")
    assert answer.json()["id"] == "job-1"
    await http.post("/lilliput/verifications", json={})
    assert fakes.upkeep.asked == [{"names": ("a", "b"), "hub": True}, {"names": (), "hub": False}]
    assert (await http.post("/lilliput/verifications", json={"models": ["missing"]})).status_code == 404


@pytest.mark.parametrize("body", [{"models": "a"}, {"models": [""]}, {"models": ["a"] * 1001}, {"hub": "perhaps"}])
async def test_a_wrong_verification_is_refused(http: httpx.AsyncClient, body: dict[str, object]) -> None:
    assert (await http.post("/lilliput/verifications", json=body)).status_code == 400


async def test_garbage_is_shown_with_what_is_kept(http: httpx.AsyncClient, fakes: Fakes) -> None:
    fakes.upkeep.verdict = Verdict((JUDGED,), (JUDGED,))
    shown = (await http.get("/lilliput/garbage")).json()
    assert shown == {"older_than_s": WEEK_S, "size_bytes": 5, "garbage": [JUDGED_JSON], "kept": [JUDGED_JSON]}
    await http.get("/lilliput/garbage", params={"older_than_s": 60})
    assert fakes.upkeep.asked == [{"older_than_s": WEEK_S}, {"older_than_s": 60}]
    for wrong in ("-1", "nan", "inf", "soon"):
        assert (await http.get("/lilliput/garbage", params={"older_than_s": wrong})).status_code == 400, wrong


async def test_pruning_tells_what_went_and_leaves_a_week_by_itself(http: httpx.AsyncClient, fakes: Fakes) -> None:
    fakes.upkeep.pruned = Pruned((JUDGED,), (), 5)
    told = (await http.post("/lilliput/prune", json={})).json()
    assert told == {"removed": [JUDGED_JSON], "skipped": [], "freed_bytes": 5}
    await http.post("/lilliput/prune", json={"older_than_s": 0, "paths": ["/data/m.gguf"]})
    assert fakes.upkeep.asked == [
        {"older_than_s": WEEK_S, "paths": None},
        {"older_than_s": 0, "paths": frozenset({"/data/m.gguf"})},
    ]
    assert (await http.post("/lilliput/prune", json={"older_than_s": -1})).status_code == 400


async def test_models_are_compared_by_name_or_all(http: httpx.AsyncClient, fakes: Fakes) -> None:
    told = (await http.get("/lilliput/outdated", params={"model": ["a", "org/b:Q4_0"]})).json()["models"]
    assert [(one["model"], one["state"], one["changes"]) for one in told] == [
        ("a", "up-to-date", []),
        ("org/b:Q4_0", "up-to-date", []),
    ]
    assert (await http.get("/lilliput/outdated")).json() == {"models": []}
    assert fakes.upkeep.asked == [{"names": ("a", "org/b:Q4_0")}, {"names": ()}]
