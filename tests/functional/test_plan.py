"""Plans as clients get them: of repositories, installed models and files, for this machine and described ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.functional.conftest import MODEL, client_of
from tests.support.daemon import DaemonProcess
from tests.support.hub import HubServer
from tests.support.model import smollm2_path
from tests.support.model_headers import Transformer, q2_k
from tests.support.pulling import QUICK, data_requests, pull, run_cli
from tests.support.variants import Variants

from lilliput.gguf import FileSource, read_header
from lilliput_client import Client

pytestmark = pytest.mark.functional

Offer = Callable[..., str]
BITS = {
    "BF16": 16.0,
    "Q8_0": 8.5,
    "Q6_K": 6.57,
    "Q5_K_M": 5.7,
    "Q5_K_S": 5.55,
    "Q5_0": 5.5,
    "Q4_K_M": 4.9,
    "Q4_K_S": 4.65,
    "Q4_0": 4.6,
    "Q3_K_L": 4.3,
    "Q3_K_M": 3.95,
    "Q2_K": 3.3,
}
TWELVE = Transformer(blocks=8, width=512, heads=8, kv_heads=2, inner=1536, vocabulary=8192, context=32768)


@pytest.fixture(scope="module")
def twelve(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Twelve variants of a model that has no weights: headers, and holes of the right sizes."""
    folder = tmp_path_factory.mktemp("twelve")
    content = TWELVE.content(q2_k, file_type=10)
    header = TWELVE.header(q2_k, file_type=10)
    elements = sum(tensor.element_count for tensor in header.tensors)
    files = {}
    for name, bits in BITS.items():
        path = folder / f"Twelve-{name}.gguf"
        with path.open("wb") as file:
            file.write(content)
            whole = header.data_offset_bytes + header.weights_bytes
            file.truncate(whole if name == "Q2_K" else max(whole + 1000, round(elements * bits / 8)))
        files[path.name] = str(path)
    return files


def get(daemon: DaemonProcess, path: str, **query: Any) -> httpx.Response:
    with client_of(daemon) as client:
        return client.get(f"/lilliput/{path}", params=query)


def plan(daemon: DaemonProcess, model: str, **query: Any) -> dict[str, Any]:
    answer = get(daemon, "plan", model=model, **query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def post(daemon: DaemonProcess, **body: Any) -> httpx.Response:
    with client_of(daemon) as client:
        return client.post("/lilliput/plan", json=body)


def test_twelve_variants_are_judged_from_one_header(
    pulling: DaemonProcess, hub: HubServer, offer: Offer, twelve: dict[str, str]
) -> None:
    repo = offer(files=twelve)
    first = plan(pulling, repo)
    assert {variant["name"] for variant in first["variants"]} == set(BITS)
    assert first["chosen"] is not None
    requests = [request for request in hub.log("cdn") if request.method == "GET"]
    assert {request.path for request in requests} == {requests[0].path}
    assert not data_requests(hub)
    hub.reset()
    again = plan(pulling, repo, context=4096, kv="q8_0")
    assert {variant["name"] for variant in again["variants"]} == set(BITS)
    assert not hub.log("cdn")
    sizes = {
        name.removeprefix("Twelve-").removesuffix(".gguf"): Path(file).stat().st_size for name, file in twelve.items()
    }
    for variant in first["variants"]:
        need = variant["need"]["ram"]
        assert variant["file_bytes"] == sizes[variant["name"]]
        if need["weights_copied"]:
            assert 0 < need["weights_mapped"] < variant["file_bytes"]
        else:
            assert 0 < variant["file_bytes"] - need["weights"] < 64 * 1024  # all but the file's header
        assert sum(need[part] for part in ("weights", "kv", "compute", "overhead")) == variant["total_bytes"]
        assert not variant["estimated"]
        assert variant["fits"]
    assert not any("formula" in note for note in first["notes"])


def test_a_plan_is_made_for_a_described_machine_by_name_and_by_table(
    pulling: DaemonProcess, offer: Offer, twelve: dict[str, str]
) -> None:
    repo = offer(files=twelve)
    by_name = plan(pulling, repo, machine="MacBook M2 16GB")
    assert by_name["machine"]["described"] == "macbook-m2-16gb"
    assert set(by_name["budget"]) == {"ram", "MTL0"}
    taken = next(one for one in by_name["variants"] if one["name"] == by_name["chosen"])
    assert (taken["offload"], taken["setting"]["gpu_layers"]) == ("full", TWELVE.blocks + 1)
    assert taken["need"]["MTL0"]["weights"] > taken["need"]["ram"]["weights"]
    table = {"name": "mine", "memory": "600 MiB", "available": "500 MiB", "cores": 2, "bandwidth": "20 GB/s"}
    answer = post(pulling, model=repo, machine=table, slots=1)
    assert answer.status_code == 200, answer.text
    assert answer.json()["machine"]["described"] == "mine"
    assert answer.json()["budget"]["ram"]["total_bytes"] == 600 * 1024**2


def test_context_kv_budget_and_all_are_kept(pulling: DaemonProcess, offer: Offer, twelve: dict[str, str]) -> None:
    repo = offer(files=twelve)
    longest = plan(pulling, repo, context="max", kv="f16")
    assert longest["context_tokens"] == 32768
    cache = {one["need"]["ram"]["kv"] for one in longest["variants"]}
    assert cache == {8 * 32768 * 2 * 2 * 128}
    small = plan(pulling, repo, context="max", kv="q8_0")
    assert {one["need"]["ram"]["kv"] for one in small["variants"]} == {8 * 32768 * 2 * 128 * 34 // 32}
    budgeted = plan(pulling, repo, budget="24GiB")
    assert budgeted["budget"]["ram"]["limit_bytes"] == 24 * 1024**3
    tiny = post(pulling, model=repo, budget="1 MiB").json()
    assert tiny["chosen"] is None
    assert tiny["summary"]
    everything = plan(pulling, repo, all="true")
    made = [one for one in everything["variants"] if not one["exists"]]
    assert {"Q4_1", "IQ4_XS", "IQ2_XXS"} <= {one["name"] for one in made}
    assert not set(BITS) & {one["name"] for one in made}
    assert everything["chosen"] in BITS


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ({"context": "long"}, "context"),
        ({"slots": 0}, "slots"),
        ({"kv": "q3_k"}, "kv"),
        ({"budget": "a lot"}, "budget"),
        ({"machine": "cray-1"}, "machine"),
        ({"use_case": "knitting"}, "use_case"),
        ({"gpu_layers": -1}, "gpu_layers"),
        ({"all": "perhaps"}, "all"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_the_field(
    served: DaemonProcess, query: dict[str, Any], param: str
) -> None:
    refused = get(served, "plan", model=MODEL, **query)
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["param"] == param
    assert refused.json()["error"]["code"] == "invalid-request"


def test_a_described_machine_that_makes_no_sense_is_refused_with_the_field(served: DaemonProcess) -> None:
    for machine in ({"memory": "much", "cores": 2}, {}, {"memory": "8 GiB", "cores": 2, "colour": "red"}):
        refused = post(served, model=MODEL, machine=machine)
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "machine")


def test_an_installed_model_and_a_bare_header_are_planned_without_a_network(
    served: DaemonProcess, tmp_path: Path
) -> None:
    here = plan(served, MODEL)
    assert (here["chosen"], len(here["variants"])) == ("Q4_1", 1)
    need = here["variants"][0]["need"]["ram"]
    assert need["weights"] == need["weights_mapped"] + need["weights_copied"]
    with FileSource(smollm2_path()) as source:
        tensors = read_header(source).weights_bytes
    assert need["weights_mapped"] <= tensors <= need["weights"]
    assert here["variants"][0]["pss_bytes"] == here["variants"][0]["total_bytes"] + need["weights_idle"]
    path = tmp_path / "Bare-Q2_K.gguf"
    path.write_bytes(TWELVE.content(q2_k, file_type=10))
    bare = plan(served, str(path))
    header = TWELVE.header(q2_k, file_type=10)
    assert bare["chosen"] == "Q2_K"
    assert bare["variants"][0]["file_bytes"] == header.data_offset_bytes + header.weights_bytes


def test_a_load_shows_how_right_its_plan_was(served: DaemonProcess) -> None:
    with client_of(served) as client:
        assert client.post("/lilliput/engines", json={"model": MODEL}).status_code == 200
        planned = client.get("/lilliput/plan", params={"model": MODEL}).json()  # as the rung that held has it
        client.delete("/lilliput/engines/" + MODEL).raise_for_status()
        assert client.post("/lilliput/engines", json={"model": MODEL}).status_code == 200
        asked = {"model": MODEL, "prompt": "sea " * 700, "max_tokens": 2}
        client.post("/v1/completions", json=asked).raise_for_status()
        client.delete("/lilliput/engines/" + MODEL).raise_for_status()
        rows = client.get("/lilliput/plan/accuracy").json()["accuracy"]
    row = next(row for row in rows if row["architecture"] == "llama")
    assert (row["backend"], row["offload"]) == ("CPU", "none")
    assert row["loads"] >= 1
    need = planned["variants"][0]["need"]["ram"]
    assert {part: row["planned"][part] for part in ("weights", "kv", "compute")} == {
        part: need[part] for part in ("weights", "kv", "compute")
    }
    assert abs(row["measured"]["weights"] / need["weights"] - 1) < 0.001
    assert abs(row["measured"]["kv"] - need["kv"]) <= 0.02 * 1024**2
    assert abs(row["measured"]["compute"] - need["compute"]) <= 0.05 * 1024**2
    assert -12 < row["error_percent"] < 5  # the plan counts the process's libraries, which are pages of files


def test_machines_and_use_cases_are_listed(served: DaemonProcess) -> None:
    machines = {machine["name"]: machine for machine in get(served, "machines").json()["machines"]}
    assert {"macbook-m2-16gb", "pc-32gb-24gb-vram", "raspberry-pi-5-8gb"} <= set(machines)
    assert machines["macbook-m2-16gb"]["unified"] is True
    cases = {case["name"]: case for case in get(served, "use_cases").json()["use_cases"]}
    assert {"general", "coding"} <= set(cases)
    assert all(case["floor"] and case["target_tokens_per_s"] > 0 for case in cases.values())
    for name in ("macbook-m2-16gb", "raspberry-pi-5-8gb"):
        assert plan(served, MODEL, machine=name)["machine"]["described"] == name


def test_the_command_tells_plans_and_leaves_with_3_when_nothing_fits(
    pulling: DaemonProcess, offer: Offer, twelve: dict[str, str]
) -> None:
    repo = offer(files=twelve)
    good = run_cli(pulling, "plan", repo, "--json", "--machine", "laptop-16gb", "--context", "4096")
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout)["chosen"] in BITS
    shown = run_cli(pulling, "plan", repo)
    assert shown.returncode == 0, shown.stderr
    assert all(name in shown.stdout for name in BITS)
    nothing = run_cli(pulling, "plan", repo, "--budget", "10MiB")
    assert nothing.returncode == 3, nothing.stderr
    assert f"no variant of {repo} fits" in nothing.stderr
    assert "hint: " in nothing.stderr


def test_an_open_name_in_a_chat_takes_the_variant_that_the_plan_takes(
    hub: HubServer, offer: Offer, tmp_path: Path
) -> None:
    repo = offer("Q8_0", "Q4_K_M", "Q2_K")
    settings = hub.environment(tmp_path / "hf") | QUICK

    def answers(daemon: DaemonProcess) -> tuple[str, str]:
        body = {"model": repo, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
        with client_of(daemon) as client:
            answer = client.post("/v1/chat/completions", json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()["model"], answer.headers["x-lilliput-variant"]

    with DaemonProcess(tmp_path / "data", settings) as daemon:
        for kind in ("Q2_K", "Q8_0", "Q4_K_M"):
            assert pull(daemon, repo, variant=kind)[-1].state == "done"
        roomy = plan(daemon, repo)
        assert roomy["chosen"] == "Q8_0"
        assert answers(daemon) == (f"{repo}:Q8_0", f"{repo}:Q8_0;quantization=Q8_0")
        needs = {one["name"]: one["total_bytes"] for one in plan(daemon, repo, kv="q4_0", context=2048)["variants"]}
        assert {one["name"] for one in roomy["variants"]} == set(needs) == {"Q8_0", "Q4_K_M", "Q2_K"}
    limit = (needs["Q8_0"] + needs["Q4_K_M"]) // 2
    with DaemonProcess(tmp_path / "data", settings | {"LILLIPUT_MEMORY_LIMIT": str(limit)}) as daemon:
        assert plan(daemon, repo)["chosen"] == "Q4_K_M"
        assert answers(daemon)[0] == f"{repo}:Q4_K_M"


def test_the_sdk_gets_the_same_plan(pulling: DaemonProcess, offer: Offer, variants: Variants) -> None:
    repo = offer("Q8_0", "Q2_K")
    with Client(pulling.url) as client:
        found = client.plan(repo, context=1024, slots=1, kv="q8_0", budget="8GiB", use_case="coding")
    told = plan(pulling, repo, context=1024, slots=1, kv="q8_0", budget="8GiB", use_case="coding")
    assert found.chosen == told["chosen"]
    assert {one.name: one.total_bytes for one in found.variants} == {
        one["name"]: one["total_bytes"] for one in told["variants"]
    }
