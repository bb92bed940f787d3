"""What a pull says it takes is what is loaded: the variant, its context, its cache, and who answers an open name."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.support.daemon import DaemonProcess
from tests.support.hub import HubServer
from tests.support.model import gemma_path
from tests.support.pulling import data_requests, limited, needs, pull, run_cli

from lilliput.units import GIB
from lilliput_client import Client

pytestmark = pytest.mark.functional

Offer = Callable[..., str]
SPARE_BYTES = 1_000_000
QUESTION = [{"role": "user", "content": "Say yes."}]


def pulled(daemon: DaemonProcess, model: str, **options: Any) -> dict[str, Any]:
    """The result of a pull that succeeds."""
    last = pull(daemon, model, **options)[-1]
    assert last.state == "done", last.error
    assert last.result is not None
    return dict(last.result)


def loaded(daemon: DaemonProcess, model: str) -> dict[str, Any]:
    """How a model is loaded into a daemon without engines: variant, context, slots and cache, as the daemon tells."""
    with httpx.Client(base_url=daemon.url, timeout=60, trust_env=False) as http:
        answer = http.post("/lilliput/engines", json={"model": model})
        assert answer.status_code == 200, answer.text
        (engine,) = http.get("/lilliput/engines").json()["engines"]
        assert http.delete(f"/lilliput/engines/{engine['model']}").status_code in {200, 204}
    found = {name: engine[name] for name in ("model", "context_tokens", "slots")}
    return found | {"kv_type": engine["settings"]["kv_type"]}


def engines(daemon: DaemonProcess) -> list[dict[str, Any]]:
    """What is loaded, as the daemon tells it."""
    found = httpx.get(f"{daemon.url}/lilliput/engines", timeout=60, trust_env=False).json()["engines"]
    assert isinstance(found, list)
    return found


def promised(result: dict[str, Any]) -> dict[str, Any]:
    """The same of what a pull said."""
    setting = {name: result["setting"][name] for name in ("context_tokens", "slots", "kv_type")}
    return {"model": result["name"], **setting}


@pytest.mark.parametrize(("best", "kv"), [("Q4_K_M", "q8_0"), ("Q5_0", "f16"), ("Q8_0", "q8_0"), ("Q8_0", "f16")])
def test_a_model_is_loaded_as_promised_into_exactly_the_budget_it_was_pulled_for(
    best: str, kv: str, pulling: DaemonProcess, hub: HubServer, offer: Offer, tmp_path: Path
) -> None:
    repo = offer(*{"Q8_0", best, "Q4_0", "Q2_K"})  # a better one that is not repacked may take less
    with limited(tmp_path, hub, needs(pulling, hub, repo, kv=kv)[best]) as daemon:
        result = pulled(daemon, repo)
        assert (result["quantization"], result["setting"]["kv_type"]) == (best, kv)
        assert loaded(daemon, repo) == promised(result)
        assert loaded(daemon, repo) == promised(result), "what the first load taught changes nothing"
        daemon.stop()
        daemon.start()
        assert loaded(daemon, result["name"]) == promised(result)


def test_the_context_asked_for_is_what_is_loaded(
    pulling: DaemonProcess, hub: HubServer, offer: Offer, tmp_path: Path
) -> None:
    repo = offer()
    limit = needs(pulling, hub, repo, kv="q8_0", context=4096)["Q8_0"]
    with limited(tmp_path, hub, limit) as daemon:
        done = run_cli(daemon, "pull", repo, "--context", "4096", "--json")
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)["result"]
        assert (result["quantization"], result["context_tokens"]) == ("Q8_0", 4096)
        assert (result["setting"]["context_tokens"], result["setting"]["kv_type"]) == (4096, "q8_0")
        assert "needs " in result["reason"]
        assert loaded(daemon, repo) == promised(result)

        too_much = run_cli(daemon, "pull", f"{repo}:Q8_0", "--context", "8192")
        assert too_much.returncode == 3
        assert "Q8_0 fits at " in too_much.stderr
        assert loaded(daemon, repo)["context_tokens"] == 4096, "what was refused changes nothing"


def test_a_use_case_decides_what_is_good_enough_and_the_context(
    pulling: DaemonProcess, hub: HubServer, offer: Offer, tmp_path: Path
) -> None:
    repo = offer("Q4_K_M", "Q2_K")
    limit = needs(pulling, hub, repo, kv="f16", context=4096)["Q2_K"]
    with limited(tmp_path, hub, limit) as daemon:
        assert pulled(daemon, repo)["quantization"] == "Q4_K_M"
        careful = run_cli(daemon, "pull", repo, "--use-case", "high-stakes")
        assert careful.returncode == 3
        assert "nothing at or above Q5_K_M fits, the floor of high-stakes" in careful.stderr
        result = pulled(daemon, repo, use_case="experiment")
        assert result["context_tokens"] == 4096, "of the use case, not of the settings"
        assert loaded(daemon, result["name"]) == promised(result)


def test_a_use_case_keeps_its_floor_when_it_is_loaded(
    pulling: DaemonProcess, hub: HubServer, offer: Offer, tmp_path: Path
) -> None:
    repo = offer("Q8_0", "Q2_K")
    enough, little = (needs(pulling, hub, repo, kv=kv, context=2048)["Q8_0"] for kv in ("q8_0", "q4_0"))
    with limited(tmp_path, hub, enough, keep=True) as daemon:
        done = run_cli(daemon, "pull", repo, "--use-case", "high-stakes", "--context", "2048", "--json")
        assert done.returncode == 0, done.stderr
        result = json.loads(done.stdout)["result"]
        assert (result["quantization"], result["setting"]["kv_type"]) == ("Q8_0", "q8_0")
        assert loaded(daemon, repo) == promised(result)
    with limited(tmp_path, hub, little + SPARE_BYTES) as daemon:
        refused = run_cli(daemon, "run", repo, "Say yes.")
        assert refused.returncode == 3
        assert "it fits with q4_0 KV: KLD +" in refused.stderr
        assert "which is below the floor of Q5_K_M" in refused.stderr
        other = ("--use-case", "experiment", "--context", "2048")
        answered = run_cli(daemon, "run", repo, "Say yes.", "--max-tokens", "2", *other)
        assert answered.returncode == 0, answered.stderr
        (engine,) = engines(daemon)
        assert (engine["context_tokens"], engine["settings"]["kv_type"]) == (2048, "q4_0")


def test_what_is_pinned_is_loaded_by_a_pull_and_by_a_run(hub: HubServer, offer: Offer, tmp_path: Path) -> None:
    repo = offer("Q2_K")
    model = f"{repo}:Q2_K"
    with limited(tmp_path, hub, 2 * GIB) as daemon:
        pulled_so = run_cli(daemon, "pull", model, "--context", "1024", "--slots", "1", "--kv", "q8_0")
        assert pulled_so.returncode == 0, pulled_so.stderr
        pinned = {"model": model, "context_tokens": 1024, "slots": 1, "kv_type": "q8_0"}
        assert loaded(daemon, repo) == pinned
        assert loaded(daemon, repo) == pinned, "the first load has not used them up"
        other = run_cli(daemon, "run", model, "Say yes.", "--slots", "3", "--max-tokens", "2")
        assert other.returncode == 0, other.stderr
        assert loaded(daemon, repo) == {"model": model, "context_tokens": 2048, "slots": 3, "kv_type": "f16"}


def test_a_pinned_load_that_does_not_fit_is_refused_unless_forced(
    pulling: DaemonProcess, hub: HubServer, offer: Offer, tmp_path: Path
) -> None:
    repo = offer("Q2_K")
    pins = ("--context", "8192", "--kv", "f16", "--max-tokens", "2")
    with limited(tmp_path, hub, needs(pulling, hub, repo)["Q2_K"] + SPARE_BYTES) as daemon:
        assert run_cli(daemon, "pull", f"{repo}:Q2_K").returncode == 0
        refused = run_cli(daemon, "run", repo, "Say yes.", *pins)
        assert refused.returncode == 3
        assert "with a context of 8192 tokens" in refused.stderr
        assert "or force it" in refused.stderr
        assert loaded(daemon, repo)["context_tokens"] == 2048, "what was refused changes nothing"
        forced = run_cli(daemon, "run", repo, "Say yes.", *pins, "--force")
        assert forced.returncode == 0, forced.stderr
        assert loaded(daemon, repo)["context_tokens"] == 8192


@pytest.fixture
def two_installed(pulling: DaemonProcess, offer: Offer) -> Iterator[str]:
    """A repository of which two variants are installed, the poorer one last."""
    repo = offer("Q5_0", "Q2_K")
    names = [pulled(pulling, f"{repo}:{one}")["name"] for one in ("Q5_0", "Q2_K")]
    yield repo
    with Client(pulling.url) as client:
        for name in names:
            client.remove(name)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("route", ["chat/completions", "completions"])
def test_an_open_name_is_answered_by_the_planned_variant_and_the_header_tells(
    route: str, *, stream: bool, pulling: DaemonProcess, hub: HubServer, two_installed: str
) -> None:
    hub.reset()
    asked = {"messages": QUESTION} if route.startswith("chat") else {"prompt": "Yes"}
    with httpx.Client(base_url=pulling.url, timeout=60, trust_env=False) as http:
        for name, quantization in ((two_installed, "Q5_0"), (f"{two_installed}:Q2_K", "Q2_K")):
            body = {"model": name, "max_tokens": 2, "stream": stream, **asked}
            answer = http.post(f"/v1/{route}", json=body)
            assert answer.status_code == 200, answer.text
            told = f"{two_installed}:{quantization};quantization={quantization}"
            assert answer.headers["x-lilliput-variant"] == told
            assert f"{two_installed}:{quantization}" in answer.text
    assert not data_requests(hub)


@pytest.mark.parametrize("tag", ["", ":Q4_K_M"])
def test_slots_are_given_up_by_the_pull_and_the_load_alike_before_the_cache_goes_below_the_floor(
    tag: str, pulling: DaemonProcess, hub: HubServer, offer: Offer, tmp_path: Path
) -> None:
    repo = offer(files={gemma_path().name: str(gemma_path())})
    need = needs(pulling, hub, repo, slots=2, kv="f16")["Q4_K_M"]
    with limited(tmp_path, hub, need - 1) as daemon:
        result = pulled(daemon, repo + tag)
        assert promised(result) == {"model": f"{repo}:Q4_K_M", "context_tokens": 2048, "slots": 1, "kv_type": "f16"}
        assert "1 slot instead of 2" in result["reason"]
        assert loaded(daemon, repo) == promised(result)
