"""The way that ``lilliput advise`` shows."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from tests.unit.client.conftest import Call
from tests.unit.client.documents import GPU_PLAN, MACHINE, NOTHING_FITS, PLAN, Q2, Q4, Q8, USE_CASES
from tests.unit.client.stub import MODEL, Stub

from lilliput_client.cli.advising import ask_use_case
from lilliput_client.plans import UseCase

ROUTE = "GET /lilliput/plan"


@pytest.fixture
def planning(stub: Stub) -> Stub:
    stub.routes["GET /lilliput/use_cases"] = 200, USE_CASES
    stub.routes[ROUTE] = 200, PLAN
    return stub


def test_advice_walks_from_the_purpose_to_the_command(planning: Stub, call: Call) -> None:
    result = call("advise", "llama3.1:8b", "--use-case", "general", "--machine", "here")
    assert result.exit_code == 0
    assert planning.bodies(ROUTE) == ["model=llama3.1%3A8b&use_case=general&machine=here"]
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert lines == [
        "1. What it is for: General chat (never below Q4_K_M, 8 tokens/s, 8192 tokens of context)",
        "Questions and answers at reading speed.",
        "2. The machine",
        "Intel Xeon, 2 cores, 16.0 GiB of memory, 9.0 GiB available, 20.3 GB/s, no accelerator",
        "memory budget 8.0 GiB (50% of 16.0 GiB)",
        "9.0 GiB available - 512.0 MiB reserve - 0 B promised; 50% of 16.0 GiB",
        "3. Start with Q4_K_M",
        "why the best that fits",
        "size 4.0 GiB on disk, 6.0 GiB of memory",
        "loaded with 4096 tokens of context, 1 at once, f16 KV cache",
        "speed 3.1-4.2 tokens/s, reads prompts at 30-50",
        "quality loss KLD 0.028, perplexity +2.8% (prior by type: Llama 3 8B)",
        "4. Test it with questions of your own",
        "lilliput pull llama3.1:8b --variant Q4_K_M",
        "lilliput run llama3.1:8b 'Explain to a guest how tides work.' --verbose",
        "5. Too many mistakes? One step up: Q8_0",
        "+4.0 GiB on disk; +4.0 GiB of memory; 1.2-1.7 instead of 3.1-4.2 tokens/s; KLD 0.0014 instead of 0.028; "
        "does not fit: needs 2.0 GiB more than there is; fits at 2048; fits with q8_0 KV: KLD +0.001",
        "6. Too slow or too large? One step down: Q2_K",
        "-2.0 GiB on disk; -2.0 GiB of memory; 12-15 instead of 3.1-4.2 tokens/s; KLD 0.332 instead of 0.028",
        "lilliput pull llama3.1:8b --variant Q2_K",
        "note: weights on the CPU are memory-mapped",
        "Next: lilliput pull llama3.1:8b --variant Q4_K_M",
    ]


def test_advice_is_told_to_programs(planning: Stub, call: Call) -> None:
    told = json.loads(call("advise", "llama3.1:8b", "--json").stdout)
    assert planning.bodies(ROUTE) == ["model=llama3.1%3A8b"]
    assert told["start"] == Q4
    assert told["use_case"]["name"] == "general"
    assert told["machine"] == MACHINE
    assert told["step_up"]["variant"] == Q8
    assert told["step_down"]["variant"] == Q2
    assert told["step_down"]["command"] == "lilliput pull llama3.1:8b --variant Q2_K"
    assert told["next"] == told["test"][0] == "lilliput pull llama3.1:8b --variant Q4_K_M"


def test_a_step_is_never_to_what_nobody_has_published(planning: Stub, call: Call) -> None:
    planning.routes[ROUTE] = 200, GPU_PLAN
    text = call("advise", "llama3.1:8b").stdout
    assert "there is nothing better\n" in text
    assert "there is nothing lighter\n" in text
    assert "CUDA0 (NVIDIA GeForce RTX 3090) with 24.0 GiB" in text
    assert "9 layers on accelerators" in text
    assert "Next (on pc-24gb): lilliput pull" in text


def test_what_is_installed_is_tested_at_once(planning: Stub, call: Call) -> None:
    planning.routes[ROUTE] = 200, {**PLAN, "variants": [{**Q4, "files": ["/m.gguf"]}]}
    told = json.loads(call("advise", "m", "--json").stdout)
    assert told["next"] == "lilliput run llama3.1:8b"
    assert len(told["test"]) == 1
    assert "this judged what is installed" in call("advise", "m").stdout


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_advice_without_anything_that_fits_has_its_own_exit_code(
    planning: Stub, call: Call, flags: tuple[str, ...]
) -> None:
    planning.routes[ROUTE] = 200, NOTHING_FITS
    result = call("advise", "llama3.1:8b", *flags)
    assert result.exit_code == 3
    assert "no variant of llama3.1:8b fits" in result.stderr
    if flags:
        assert json.loads(result.stdout)["start"] is None
    else:
        told = [line.strip() for line in result.stdout.splitlines()]
        assert told[-4:-1] == ["3. There is nothing to start with", NOTHING_FITS["summary"], "Q8_0 fits at 2048"]


def test_without_a_model_those_at_hand_are_named(planning: Stub, call: Call) -> None:
    planning.routes["GET /lilliput/models"] = 200, {"models": [MODEL]}
    result = call("advise", "--json")
    assert result.exit_code == 2
    assert "name a MODEL" in result.stderr
    assert "installed: smollm2:135m" in json.loads(result.stdout)["error"]["message"].replace("\n", " ")


@pytest.mark.parametrize(
    ("answer", "chosen"), [("2\n", "coding"), ("general\n", "general"), ("\n", None), ("", None), ("7\n", "7")]
)
def test_a_use_case_is_chosen_by_number_or_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str, chosen: str | None
) -> None:
    cases: list[Any] = [UseCase("general", description="Questions."), UseCase("coding", title="Coding")]
    monkeypatch.setattr("sys.stdin", io.StringIO(answer))
    assert ask_use_case(cases) == chosen
    told = capsys.readouterr()
    assert told.out == ""
    assert " 1  general       Questions.\n 2  coding        Coding\n" in told.err
