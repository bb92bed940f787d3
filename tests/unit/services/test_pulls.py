"""A pull goes from a name to a registered model, tells all the way, and goes on where it stopped."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.services.gguf_files import tiny_gguf
from tests.unit.services.pull_bench import FIRST, REPO, SECOND, Bench

from lilliput.catalogue import InstalledFile
from lilliput.errors import BadName, DiskFull, HubUnreachable, InvalidRequest, ModelNotFound
from lilliput.llama import Rope
from lilliput.pool import OPEN_TERMS, Terms
from lilliput.services.agreements import agreed
from lilliput.services.damage import note_damage
from lilliput.services.fetched import all_fetched
from lilliput.services.job_records import Job


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    made.hub.add("Llama-Q8_0.gguf", tiny_gguf(rows=8))
    made.hub.add("Llama-Q4_K_M.gguf", tiny_gguf(rows=4))
    made.hub.add("mmproj-Llama-F16.gguf", tiny_gguf("clip", rows=64))
    made.hub.add("README.md", b"read me")
    yield made
    made.store.close()


def code_of(job: Job) -> str | None:
    return None if job.error is None else job.error.code


async def test_a_family_is_pulled_in_the_variant_that_fits(bench: Bench) -> None:
    job = await bench.pull("llama3.1", terms=Terms(context_tokens=4096))
    assert (job.state, job.error) == ("done", None)
    content = bench.hub.contents["Llama-Q8_0.gguf"]
    assert dict(job.result) == {
        "name": "llama3.1:8b-q8_0",
        "quantization": "Q8_0",
        "repo": REPO,
        "revision": FIRST,
        "files": [
            {"path": "Llama-Q8_0.gguf", "size_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        ],
        "size_bytes": len(content),
        "reason": "the best that fits",
        "setting": {"context_tokens": 4096, "slots": 8, "kv_type": "q8_0", "gpu_layers": 0, "cpu_expert_layers": 0},
        "context_tokens": 4096,
        "up_to_date": False,
    }
    assert job.message == "llama3.1:8b-q8_0 is installed"
    assert (job.completed_bytes, job.total_bytes) == (len(content), len(content))
    assert bench.chooser.asked == [(None, None, Terms(context_tokens=4096))]
    model = bench.model("llama3.1:8b-q8_0")
    assert (model.source, model.repo, model.revision, model.quantization) == ("hub", REPO, FIRST, "Q8_0")
    assert (model.architecture, model.context_length, model.parameter_count) == ("llama", 2048, 256)
    assert (model.license, model.installed_at) == ("llama3.1", 1000.0)
    assert model.path.read_bytes() == content
    assert model.files[0].sha256 == hashlib.sha256(content).hexdigest()


async def test_a_repository_is_named_as_the_hub_spells_it(bench: Bench) -> None:
    job = await bench.pull("ORG/llama-3.1-8b-gguf:q4-k-m")
    assert job.result["name"] == f"{REPO}:Q4_K_M"
    assert bench.chooser.asked == [("Q4_K_M", None, Terms(named=True))]


async def test_the_variant_option_goes_before_the_tag(bench: Bench) -> None:
    job = await bench.pull("llama3.1:8b-q8_0", variant="q4_k_m")
    assert job.result["name"] == "llama3.1:8b-q4_k_m"


async def test_the_terms_asked_for_are_kept_until_the_model_is_removed(bench: Bench) -> None:
    def kept() -> Terms:
        return agreed(bench.store, "llama3.1:8b-q8_0")

    await bench.pull("llama3.1")
    assert kept() == OPEN_TERMS
    wanted = Terms(context_tokens=4096, slots=2, kv_type="q8_0", gpu_layers=3, rope=Rope("yarn", freq_scale=0.5))
    again = await bench.pull("llama3.1", terms=wanted)
    assert (again.result["up_to_date"], again.result["context_tokens"]) == (True, 4096)
    assert kept() == wanted
    await bench.pull("llama3.1")
    assert kept() == wanted, "nothing else was asked for"
    await bench.pull("llama3.1", terms=Terms(forced=True))
    assert kept() == replace(wanted, forced=True)
    last = await bench.pull("llama3.1", terms=Terms(use_case="coding"))
    assert (last.result["context_tokens"], kept()) == (16384, Terms(use_case="coding"))
    assert [terms for _, _, terms in bench.chooser.asked][-1] == Terms(use_case="coding")
    bench.removable = True
    await bench.models.remove("llama3.1:8b-q8_0")
    assert kept() == OPEN_TERMS


async def test_force_holds_for_what_is_installed_and_named_already(bench: Bench) -> None:
    await bench.pull("llama3.1:8b-q8_0")
    again = await bench.pull("llama3.1:8b-q8_0", terms=Terms(forced=True))
    assert again.result["reason"] == "installed before"
    assert agreed(bench.store, "llama3.1:8b-q8_0") == Terms(forced=True)


async def test_terms_that_no_load_can_have_are_refused_before_a_job_is_made(bench: Bench) -> None:
    for terms in (Terms(kv_type="q9"), Terms(slots=1000), Terms(context_tokens=1)):
        with pytest.raises(InvalidRequest):
            await bench.pulls.start("llama3.1", terms=terms)
    assert bench.jobs.list() == ()


async def test_a_named_variant_that_is_there_is_judged_again_for_a_use_case(bench: Bench) -> None:
    await bench.pull("llama3.1:8b-q8_0")
    assert (await bench.pull("llama3.1:8b-q8_0")).result["reason"] == "installed before"
    bench.chooser.fits = False
    refused = await bench.pull("llama3.1:8b-q8_0", terms=Terms(use_case="coding"))
    assert refused.error is not None
    assert refused.error.code == "does-not-fit"


async def test_a_file_may_be_named(bench: Bench) -> None:
    job = await bench.pull(f"{REPO}/llama-q8_0.gguf")
    assert job.result["quantization"] == "Q8_0"
    assert bench.chooser.asked == [(None, "llama-q8_0.gguf", Terms(named=True))]


async def test_a_file_that_is_no_model_is_no_variant(bench: Bench) -> None:
    job = await bench.pull("llama3.1", variant="mmproj-Llama-F16.gguf")
    assert code_of(job) == "variant-not-found"


async def test_files_that_share_a_quantization_are_named_by_file(bench: Bench) -> None:
    bench.hub.add("Other-Q8_0.gguf", tiny_gguf(rows=2))
    job = await bench.pull("llama3.1", variant="Llama-Q8_0.gguf")
    assert job.result["name"] == f"{REPO}/Llama-Q8_0.gguf"
    assert bench.model(f"{REPO}/Llama-Q8_0.gguf").quantization == "Q8_0"


async def test_a_missing_quantization_lists_what_there_is(bench: Bench) -> None:
    job = await bench.pull("llama3.1:8b-q6_k")
    assert code_of(job) == "variant-not-found"
    assert job.error is not None
    assert "Q6_K" in job.error.message
    assert "Q8_0, Q4_K_M" in (job.error.hint or "")
    assert bench.hub.downloads == []


async def test_an_incomplete_set_of_shards_is_refused(bench: Bench) -> None:
    bench.hub.add("Llama-F16-00001-of-00002.gguf")
    job = await bench.pull("llama3.1:8b-f16")
    assert job.error is not None
    assert "missing" in job.error.message


async def test_a_repository_without_models_says_so(bench: Bench) -> None:
    bench.hub.contents = {"model.safetensors": b"x"}
    job = await bench.pull("llama3.1")
    assert job.error is not None
    assert "no GGUF" in job.error.message


async def test_shards_are_fetched_and_kept_in_load_order_with_one_progress(bench: Bench) -> None:
    for index in (2, 1, 3):
        bench.hub.add(f"Llama-F16-0000{index}-of-00003.gguf", tiny_gguf(rows=index * 10))
    bench.hub.gate.clear()
    job = await bench.pulls.start("llama3.1:8b-f16")
    await asyncio.wait_for(bench.hub.reached.wait(), 5)
    sizes = [len(bench.hub.contents[f"Llama-F16-0000{index}-of-00003.gguf"]) for index in (1, 2, 3)]
    seen = bench.jobs.get(job.id)
    assert (seen.completed_bytes, seen.total_bytes) == (sizes[0] // 2, sum(sizes))
    assert seen.file == "Llama-F16-00001-of-00003.gguf"
    assert seen.digest == f"sha256:{seen.result['files'][0]['sha256']}"
    bench.hub.gate.set()
    final = await bench.end(job)
    assert final.completed_bytes == sum(sizes)
    names = [f"Llama-F16-0000{index}-of-00003.gguf" for index in (1, 2, 3)]
    assert bench.hub.downloads == names
    model = bench.model("llama3.1:8b-f16")
    assert [file.path.name for file in model.files] == names
    assert [file.size_bytes for file in model.files] == sizes
    assert model.parameter_count == 32 * (10 + 20 + 30)


async def test_the_choice_and_its_reason_are_told_while_downloading(bench: Bench) -> None:
    bench.hub.gate.clear()
    job = await bench.pulls.start("llama3.1")
    await asyncio.wait_for(bench.hub.reached.wait(), 5)
    seen = bench.jobs.get(job.id)
    assert (seen.state, seen.phase) == ("running", "downloading")
    assert seen.message is not None
    assert seen.message.startswith("Q8_0 (")
    assert "the best that fits" in seen.message
    assert (seen.result["name"], seen.result["reason"]) == ("llama3.1:8b-q8_0", "the best that fits")
    await bench.jobs.aclose()


async def test_nothing_is_fetched_when_nothing_fits(bench: Bench) -> None:
    bench.chooser.fits = False
    for name in ("llama3.1", "llama3.1:8b-q4_k_m"):
        assert code_of(await bench.pull(name)) == "does-not-fit"
    assert bench.hub.downloads == []
    job = await bench.pull("llama3.1:8b-q4_k_m", terms=Terms(forced=True))
    assert job.state == "done"


async def test_a_full_disk_stops_before_the_first_byte(bench: Bench) -> None:
    bench.hub.space_fault = DiskFull("no room for 5 GiB")
    assert code_of(await bench.pull("llama3.1")) == "disk-full"
    assert bench.hub.downloads == []
    assert bench.store.installed() == ()


async def test_a_failed_download_registers_nothing(bench: Bench) -> None:
    bench.hub.fault = HubUnreachable("the Hub is gone")
    assert code_of(await bench.pull("llama3.1")) == "hub-unreachable"
    assert bench.store.installed() == ()


async def test_a_file_that_cannot_be_read_is_not_registered(bench: Bench) -> None:
    bench.hub.add("Llama-Q8_0.gguf", b"<!DOCTYPE html>" * 100)
    job = await bench.pull("llama3.1:8b-q8_0")
    assert code_of(job) == "bad-file"
    assert job.error is not None
    assert REPO in job.error.message
    assert bench.store.installed() == ()


async def test_what_is_installed_is_up_to_date_without_a_download(bench: Bench) -> None:
    await bench.pull("llama3.1:8b-q4_k_m")
    bench.chooser.fits = False
    again = await bench.pull("llama3.1:8b-q4_k_m")
    assert again.state == "done"
    assert again.message == "llama3.1:8b-q4_k_m is up to date"
    assert again.result["up_to_date"] is True
    assert again.completed_bytes == again.total_bytes
    assert bench.hub.downloads == ["Llama-Q4_K_M.gguf"]


async def test_the_variant_that_would_be_chosen_again_is_up_to_date(bench: Bench) -> None:
    await bench.pull("llama3.1")
    assert (await bench.pull("llama3.1")).result["up_to_date"] is True


@pytest.mark.parametrize("harm", ["gone", "cut", "older"])
async def test_what_is_installed_in_part_is_fetched_again(bench: Bench, harm: str) -> None:
    await bench.pull("llama3.1:8b-q4_k_m")
    path = bench.model("llama3.1:8b-q4_k_m").path
    if harm == "gone":
        path.unlink()
    elif harm == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        bench.hub.revision = SECOND
    again = await bench.pull("llama3.1:8b-q4_k_m")
    assert again.result["up_to_date"] is False
    assert len(bench.hub.downloads) == 2
    assert bench.model("llama3.1:8b-q4_k_m").revision == bench.hub.revision


async def test_the_same_target_at_the_same_time_is_one_job(bench: Bench) -> None:
    bench.hub.gate.clear()
    names = ["llama3.1", "llama3.1:8b", "LLAMA-3.1", REPO, f"hf.co/{REPO.lower()}"]
    jobs = await asyncio.gather(*(bench.pulls.start(name) for name in names))
    assert len({job.id for job in jobs}) == 1
    assert (await bench.pulls.start("llama3.1:8b-q4_k_m")).id != jobs[0].id
    for terms in (Terms(forced=True), Terms(use_case="coding"), Terms(kv_type="f16")):
        assert (await bench.pulls.start("llama3.1", terms=terms)).id != jobs[0].id
    bench.hub.gate.set()
    await bench.end(jobs[0])
    assert (await bench.pulls.start("llama3.1")).id != jobs[0].id
    await bench.jobs.aclose()


async def test_names_are_judged_before_a_job_is_made(bench: Bench) -> None:
    for name, error in (("what?", BadName), ("gpt9", ModelNotFound), ("llama3.1:99b", ModelNotFound)):
        with pytest.raises(error):
            await bench.pulls.start(name)
    with pytest.raises(BadName):
        await bench.pulls.start("llama3.1", variant="q99")
    assert bench.jobs.list() == ()


async def test_a_pull_goes_on_after_a_restart_with_what_it_had_chosen(bench: Bench) -> None:
    bench.hub.gate.clear()
    job = await bench.pulls.start("llama3.1")
    await asyncio.wait_for(bench.hub.reached.wait(), 5)
    await bench.jobs.aclose()
    assert bench.store.installed() == ()

    bench.hub.gate.set()
    bench.hub.revision = SECOND  # the branch moved on meanwhile, and nothing would fit any more
    bench.chooser.fits = False
    bench.build()
    await bench.jobs.start()
    final = await bench.end(job)
    assert (final.state, final.result["revision"]) == ("done", FIRST)
    assert bench.hub.asked == [(REPO, "main"), (REPO, FIRST)]
    assert len(bench.chooser.asked) == 1
    assert bench.model("llama3.1:8b-q8_0").revision == FIRST


async def test_cancelling_stops_the_download_and_registers_nothing(bench: Bench) -> None:
    bench.hub.gate.clear()
    job = await bench.pulls.start("llama3.1")
    await asyncio.wait_for(bench.hub.reached.wait(), 5)
    assert (await bench.jobs.cancel(job.id)).state == "cancelled"
    assert bench.store.installed() == ()


async def test_waiting_for_the_hub_is_shown(bench: Bench) -> None:
    bench.hub.gate.clear()
    shown: list[tuple[str | None, str | None]] = []
    publish = bench.jobs._publish

    def watch(*arguments: object, **changes: object) -> None:
        publish(*arguments, **changes)  # type: ignore[arg-type]
        if "phase" in changes:
            shown.append((str(changes["phase"]), str(changes["message"])))

    bench.jobs._publish = watch  # type: ignore[method-assign]
    bench.hub.gate.set()
    await bench.pull("llama3.1")
    assert [phase for phase, _ in shown] == [
        "resolving",
        "waiting",
        "choosing",
        "checking",
        "downloading",
        "verifying",
        "registering",
    ]
    assert shown[1][1] == "the Hub asks to slow down; trying again in 2 s"


async def test_a_local_file_is_registered_by_a_pull(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "own.gguf"
    path.write_bytes(tiny_gguf())
    job = await bench.pull(str(path))
    assert job.state == "done"
    assert job.result["name"] == str(path)
    assert bench.model(str(path)).files == (InstalledFile(path, path.stat().st_size),)
    await bench.pull(str(path), terms=Terms(context_tokens=2048))
    assert agreed(bench.store, str(path)) == Terms(context_tokens=2048, named=True)
    assert code_of(await bench.pull(str(tmp_path / "nowhere.gguf"))) == "not-found"


async def test_the_stored_result_of_a_pull_survives_a_restart(bench: Bench) -> None:
    job = await bench.pull("llama3.1")
    bench.build()
    await bench.jobs.start()
    assert replace(bench.jobs.get(job.id), updated_at=0.0) == replace(job, updated_at=0.0)


async def test_a_damaged_model_is_fetched_again_without_a_new_choice(bench: Bench) -> None:
    await bench.pull("llama3.1:8b-q4_k_m")
    note_damage(bench.store, "llama3.1:8b-q4_k_m", damaged=True)
    bench.hub.downloads.clear()
    bench.chooser.asked.clear()
    job = await bench.pull("llama3.1:8b-q4_k_m")
    assert (job.state, job.message) == ("done", "llama3.1:8b-q4_k_m is installed")
    assert (bench.hub.downloads, bench.chooser.asked) == (["Llama-Q4_K_M.gguf"], [])
    assert (await bench.pull("llama3.1:8b-q4_k_m")).message == "llama3.1:8b-q4_k_m is up to date"


async def test_what_a_pull_brings_and_what_it_replaces_is_known_as_its_own(bench: Bench) -> None:
    await bench.pull("llama3.1:8b-q4_k_m")
    first = bench.model("llama3.1:8b-q4_k_m").files[0].sha256 or ""
    assert set(all_fetched(bench.store)) == {(REPO, first)}
    bench.store.set_fact(f"fetched:{REPO}/{first}", None)  # as of one that was installed before this was noted
    bench.hub.add("Llama-Q4_K_M.gguf", tiny_gguf(rows=5))
    bench.hub.revision = SECOND
    await bench.pull("llama3.1:8b-q4_k_m")
    second = bench.model("llama3.1:8b-q4_k_m").files[0].sha256 or ""
    assert first != second
    assert set(all_fetched(bench.store)) == {(REPO, first), (REPO, second)}
    bench.removable = True
    await bench.models.remove("llama3.1:8b-q4_k_m")
    assert set(all_fetched(bench.store)) == {(REPO, first)}


async def test_what_others_have_brought_is_theirs(bench: Bench) -> None:
    path = bench.hub.directory / FIRST / "Llama-Q4_K_M.gguf"
    path.parent.mkdir(parents=True)
    path.write_bytes(bench.hub.contents["Llama-Q4_K_M.gguf"])
    assert (await bench.pull("llama3.1:8b-q4_k_m")).state == "done"
    assert all_fetched(bench.store) == {}
