"""What an engine is told, and what it must prove."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from msgspec import structs
from tests.unit.pool.conftest import NEED, installed

from lilliput.fit import RAM
from lilliput.llama import Rope
from lilliput.pool import DraftPlan, LoadPlan, PoolSettings
from lilliput.pool.proof import Proof, digest_of
from lilliput.pool.resident import shown_draft, shown_rope
from lilliput.pool.starting import start_message


def test_an_engine_is_told_how_the_plan_shares_layers_out() -> None:
    settings = PoolSettings(
        slots=2, keep_alive_s=-1, queue_limit=4, threads=1, machine="m", build="b", rungs=("native",)
    )
    plan = LoadPlan(256, 2, 4, {RAM: NEED}, frozenset(), gpu_layers=9, cpu_expert_layers=3, tensor_split=(48.0, 16.0))
    model = start_message(installed(), plan, settings, "native").model
    assert (model.gpu_layers, model.cpu_expert_layers, model.tensor_split) == (9, 3, (48.0, 16.0))


def test_an_engine_is_told_how_its_context_is_stretched_and_people_are_too() -> None:
    settings = PoolSettings(
        slots=2, keep_alive_s=-1, queue_limit=4, threads=1, machine="m", build="b", rungs=("native",)
    )
    rope = Rope("yarn", freq_base=1e6, freq_scale=0.25, original_tokens=4096)
    plan = LoadPlan(16384, 2, 4, {RAM: NEED}, frozenset(), rope=rope)
    assert start_message(installed(), plan, settings, "native").context.rope == rope
    assert shown_rope(rope) == {
        "rope_scaling": "yarn",
        "rope_freq_base": "1e+06",
        "rope_freq_scale": "0.25",
        "yarn_orig_ctx": "4096",
    }
    assert shown_rope(None) == {}


def test_an_engine_is_told_of_its_draft_model_and_people_are_too() -> None:
    settings = PoolSettings(
        slots=2, keep_alive_s=-1, queue_limit=4, threads=1, machine="m", build="b", rungs=("native",)
    )
    rope = Rope("yarn", freq_scale=0.5)
    draft = DraftPlan("small", "/models/small.gguf", gpu_layers=3, rope=Rope("none"))
    plan = LoadPlan(16384, 2, 4, {RAM: NEED}, frozenset(), kv_type="q8_0", rope=rope, draft=draft)
    told = start_message(installed(), plan, settings, "native")
    assert told.draft is not None
    assert (told.draft.model.path, told.draft.model.gpu_layers, told.draft.model.rung) == (draft.path, 3, "native")
    assert told.draft.context == replace(told.context, rope=Rope("none"))
    assert shown_draft(plan) == {"draft": "small"}
    assert shown_draft(replace(plan, draft=None, draft_note="it is gone")) == {
        "draft": "none",
        "draft_note": "it is gone",
    }
    assert shown_draft(replace(plan, draft=None)) == {}


class Facts(dict[str, str]):
    def get_fact(self, key: str) -> str | None:
        return self.get(key)

    def set_fact(self, key: str, value: str) -> None:
        self[key] = value


def test_the_load_that_held_last_need_not_be_proven_again(tmp_path: Path) -> None:
    settings = PoolSettings(
        slots=2, keep_alive_s=-1, queue_limit=4, threads=1, machine="m", build="b", rungs=("native",)
    )
    plan = LoadPlan(256, 2, 4, {RAM: NEED}, frozenset())
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF")
    start = start_message(installed(), plan, settings, "native")
    proof, elsewhere = Proof(Facts(), "one", "m/b"), Proof(Facts(), "one", "m/c")
    digest = digest_of(start, [path])
    assert not proof.holds(digest)
    proof.note(digest)
    assert proof.holds(digest)
    assert digest == digest_of(structs.replace(start, warm_tokens=1), [path])
    assert not elsewhere.holds(digest)
    others = [
        start_message(installed(), replace(plan, kv_type="q8_0"), settings, "native"),
        start_message(installed(), replace(plan, gpu_layers=1), settings, "native"),
        start_message(installed(), plan, settings, "no-extra-buffers"),
        structs.replace(start, slots=3),
    ]
    assert len({digest, *(digest_of(one, [path]) for one in others)}) == 5
    path.write_bytes(b"GGUF, another one")
    assert digest_of(start, [path]) != digest
