"""What ``lilliput plan`` sends, prints and ends with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.client.conftest import Call
from tests.unit.client.documents import ACCURACY, GPU_PLAN, MACHINES, NOTHING_FITS, PLAN, Q4
from tests.unit.client.stub import Stub

ROUTE = "GET /lilliput/plan"


def planned(stub: Stub, call: Call, document: dict[str, Any], *flags: str) -> list[str]:
    stub.routes[ROUTE] = 200, document
    result = call("plan", document["model"], *flags)
    assert result.exit_code == 0, result.stderr
    assert not any(line.endswith(" ") for line in result.stdout.splitlines())
    return result.stdout.splitlines()


def row(lines: list[str], name: str) -> str:
    return next(line for line in lines if name in line)


def test_a_plan_tells_the_conditions_and_every_number_of_the_budget(stub: Stub, call: Call) -> None:
    lines = planned(stub, call, PLAN)
    assert lines[:3] == [
        "llama3.1:8b at 4096 tokens of context",
        "memory budget 8.0 GiB (50% of 16.0 GiB)",
        "  9.0 GiB available - 512.0 MiB reserve - 0 B promised; 50% of 16.0 GiB",
    ]


def test_a_plan_has_a_row_for_each_variant_with_what_it_takes_and_gives(stub: Stub, call: Call) -> None:
    lines = planned(stub, call, PLAN)
    header = "VARIANT SIZE NEEDS CTX KV TOKENS/S KLD DPPL FITS OF THE BUDGET"
    assert row(lines, "VARIANT").split() == header.split()
    told = "Q8_0 8.0 GiB 10.0 GiB 4096 f16 1.2-1.7 0.0014 +0.14% no"
    assert row(lines, "Q8_0").split()[: len(told.split())] == told.split()
    assert row(lines, "Q8_0").endswith("125%")
    taken = "* Q4_K_M 4.0 GiB 6.0 GiB 4096 f16 3.1-4.2 0.028 +2.8% yes"
    assert row(lines, "Q4_K_M").split()[: len(taken.split())] == taken.split()
    assert "12-15" in row(lines, "Q2_K")


def test_a_plan_ends_with_reasons_near_misses_notes_and_the_next_command(stub: Stub, call: Call) -> None:
    told = [line.split() for line in planned(stub, call, PLAN)]
    near = "needs 2.0 GiB more than there is; fits at 2048; fits with q8_0 KV: KLD +0.001"
    assert ["Q8_0", *near.split()] in told
    assert ["objective", *str(PLAN["objective"]).split()] in told
    assert ["note", *PLAN["notes"][0].split()] in told
    assert told[-1] == ["next", "lilliput", "pull", "llama3.1:8b", "--variant", "Q4_K_M"]


def test_a_plan_over_several_memories_tells_each(stub: Stub, call: Call) -> None:
    lines = planned(stub, call, GPU_PLAN)
    text = "\n".join(lines)
    assert lines[0].endswith("for 2 requests at once on pc-24gb")
    assert "budget of ram 8.0 GiB (50% of 16.0 GiB)" in lines
    assert "budget of CUDA0 1.0 GiB (the limit set is 1.0 GiB)" in lines
    assert "90% of 2.0 GiB; limit 1.0 GiB" in text
    assert row(lines, "(Q8_0)").split()[3] == "~10.0"
    assert "~0.0014" in row(lines, "(Q8_0)")
    index = lines.index(row(lines, "* "))
    assert "ram " in lines[index]
    assert " 9 " in lines[index]
    assert lines[index + 1].split()[0] == "CUDA0"
    assert lines[index + 1].endswith(" 94%")
    assert "KLD +0.001; give or take 256.0 MiB\n" in text
    assert "the experts of 3 layers stay in system memory; 5.0 GiB of ram, 960.0 MiB of CUDA0" in text
    assert "( ) not published   ~ estimated" in text
    assert lines[-1].endswith("--variant Q4_K_M   (on pc-24gb)")


@pytest.mark.parametrize(
    ("flags", "query"),
    [
        (("--ctx", "4096", "--slots", "2"), "context=4096&slots=2"),
        (("--context", "max", "--kv", "q8_0"), "context=max&kv=q8_0"),
        (("--use-case", "coding", "--all", "--gpu-layers", "0"), "use_case=coding&all=true&gpu_layers=0"),
        (("--budget", "24GiB", "--machine", "macbook-m2-16gb"), "machine=macbook-m2-16gb&budget=24GiB"),
        (("--mmproj", "mmproj.gguf", "--lora", "/lora.gguf"), "mmproj=mmproj.gguf&lora=%2Flora.gguf"),
    ],
)
def test_what_is_wanted_is_sent(stub: Stub, call: Call, flags: tuple[str, ...], query: str) -> None:
    planned(stub, call, PLAN, *flags)
    assert stub.bodies(ROUTE) == [f"model=llama3.1%3A8b&{query}"]


@pytest.mark.parametrize(("flag", "tail"), [("8192", " --context 8192"), ("max", " --context 4096")])
def test_a_wanted_context_is_in_the_next_command(stub: Stub, call: Call, flag: str, tail: str) -> None:
    assert planned(stub, call, PLAN, "--ctx", flag)[-1].endswith(f"--variant Q4_K_M{tail}")


PINS = ("--use-case", "bulk", "--slots", "2", "--kv", "q8_0", "--gpu-layers", "0", "--rope-scaling", "yarn")


@pytest.mark.parametrize("files", [["a.gguf"], ["/models/a.gguf"]])
def test_what_was_pinned_is_in_the_next_command(stub: Stub, call: Call, files: list[str]) -> None:
    document = {**PLAN, "use_case": "bulk", "model": "m:q4_k_m", "variants": [{**Q4, "files": files}]}
    verb = "run" if files[0].startswith("/") else "pull"
    assert planned(stub, call, document, *PINS)[-1].split() == ["next", "lilliput", verb, "m:q4_k_m", *PINS]


@pytest.mark.parametrize(
    ("model", "files", "command"),
    [
        ("org/repo:q4-k-m", ["a.gguf"], "lilliput pull org/repo:q4-k-m"),
        ("smollm2", ["/models/smollm2.gguf"], "lilliput run smollm2"),
        ("smollm2", ["C:\\models\\smollm2.gguf"], "lilliput run smollm2"),
    ],
)
def test_the_next_command_names_the_variant_once_and_runs_what_is_here(
    stub: Stub, call: Call, model: str, files: list[str], command: str
) -> None:
    document = {**PLAN, "model": model, "variants": [{**Q4, "files": files}]}
    assert planned(stub, call, document)[-1].split() == ["next", *command.split()]


@pytest.mark.parametrize(
    "text", ["[mine]\nmemory = '32 GiB'\ncores = 8\n[[mine.accelerators]]\nmemory = 7", "memory = '32 GiB'\ncores = 8"]
)
def test_a_machine_in_a_file_is_sent_as_its_table(stub: Stub, call: Call, tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    stub.routes["POST /lilliput/plan"] = 200, PLAN
    assert call("plan", "m", "--machine", str(path), "--ctx", "4096").exit_code == 0
    (body,) = stub.bodies("POST /lilliput/plan")
    assert (body["model"], body["context"]) == ("m", 4096)
    machine = body["machine"]
    assert (machine["name"], machine["memory"], machine["cores"]) == ("mine", "32 GiB", 8)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (None, "cannot be read"),
        ("memory = ", "is not a TOML file"),
        ("[a]\n[b]\n", "must hold one machine, not 2 tables"),
        ("", "must hold one machine, not 0 tables"),
        ("cores = 8", "must hold one machine"),
        ("[a]\nmemory = 1979-05-27", "holds dates"),
        ("#" * (2 << 20), "too large"),
    ],
)
def test_a_file_that_describes_no_machine_is_refused_with_a_hint(
    stub: Stub, call: Call, tmp_path: Path, text: str | None, complaint: str
) -> None:
    path = tmp_path / "mine.toml"
    if text is not None:
        path.write_text(text)
    result = call("plan", "m", "--machine", str(path), "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["code"] == "invalid-machine"
    assert complaint in result.stderr
    assert "hint: write [my-machine]" in result.stderr
    assert stub.seen == []


def test_a_plan_is_told_to_programs_as_the_daemon_tells_it(stub: Stub, call: Call) -> None:
    assert json.loads("\n".join(planned(stub, call, GPU_PLAN, "--json"))) == GPU_PLAN


@pytest.mark.parametrize("flags", [(), ("--json",)])
def test_a_plan_in_which_nothing_fits_has_its_own_exit_code(stub: Stub, call: Call, flags: tuple[str, ...]) -> None:
    stub.routes[ROUTE] = 200, NOTHING_FITS
    result = call("plan", "llama3.1:8b", *flags)
    assert result.exit_code == 3
    assert (
        "error: no variant of llama3.1:8b fits: nothing at or above Q4_K_M fits, the floor of general" in result.stderr
    )
    assert "hint: Q8_0 fits at 2048; take a smaller model" in result.stderr
    assert "or force it: lilliput pull llama3.1:8b --force\n" in result.stderr
    assert "Q4_K_M" in result.stdout
    assert "lilliput pull" not in result.stdout


def test_a_plan_that_a_floor_leaves_empty_says_so(stub: Stub, call: Call) -> None:
    below = {**Q4, "reason": "below the floor Q5_K_M of high-stakes"}
    summary = "nothing at or above Q5_K_M fits; Q4_K_M would fit, but is below the floor"
    stub.routes[ROUTE] = 200, {**PLAN, "variants": [below], "chosen": None, "summary": summary}
    result = call("plan", "llama3.1:8b")
    assert result.exit_code == 3
    assert f"no variant of llama3.1:8b will do: {summary}" in result.stderr
    assert f"summary     {summary}\n" in result.stdout
    assert "hint: to have it all the same: lilliput pull llama3.1:8b --variant Q4_K_M; or" in result.stderr


def test_what_is_installed_below_a_floor_is_had_by_force(stub: Stub, call: Call) -> None:
    here = {**Q4, "files": ["/m.gguf"], "reason": "below the floor Q5_K_M of high-stakes"}
    stub.routes[ROUTE] = 200, {**PLAN, "variants": [here], "chosen": None, "use_case": "high-stakes"}
    hint = call("plan", "m", "--use-case", "high-stakes").stderr
    assert "all the same: lilliput run llama3.1:8b --use-case high-stakes --force; or" in hint


def test_what_cannot_be_loaded_has_no_numbers(stub: Stub, call: Call) -> None:
    gone = {"name": "Q4_0_4_4", "fits": False, "file_bytes": 5, "total_bytes": 0, "need": {}, "reason": "removed"}
    lines = planned(stub, call, {**PLAN, "variants": [Q4, gone]})
    assert row(lines, "Q4_0_4_4").split()[1:] == ["5", "B", "-", "-", "-", "-", "-", "-", "no", "-"]


def test_a_repository_without_variants_has_nothing_to_choose(stub: Stub, call: Call) -> None:
    stub.routes[ROUTE] = 200, {**PLAN, "variants": [], "chosen": None}
    result = call("plan", "llama3.1:8b")
    assert (result.exit_code, "no variant of llama3.1:8b can be loaded" in result.stderr) == (3, True)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("m", "--ctx", "0"), "neither a number of tokens nor max"),
        (("m", "--ctx", "much"), "neither a number of tokens nor max"),
        (("m", "--slots", "0"), "slots"),
        ((), "name a MODEL to plan"),
    ],
)
def test_wrong_usage_is_told_to_people_and_programs(
    stub: Stub, call: Call, arguments: tuple[str, ...], complaint: str
) -> None:
    result = call("plan", *arguments, "--json")
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert json.loads(result.stdout)["error"]["code"] == "usage"
    assert stub.seen == []


def test_the_accuracy_of_plans_is_shown(stub: Stub, call: Call) -> None:
    stub.routes["GET /lilliput/plan/accuracy"] = 200, ACCURACY
    lines = call("plan", "--accuracy").stdout.splitlines()
    told = [" ".join(line.split()) for line in lines]
    assert told[1].startswith("llama CPU b9000 3 150.0 MiB 153.0 MiB +2.0% -3.5% 3.0 MiB ")
    assert told[4:] == ["llama CPU ram kv 0 B -2.0 MiB", "llama CPU ram overhead +3.0 MiB +4.0 MiB"]
    assert json.loads(call("plan", "--accuracy", "--json").stdout) == ACCURACY


def test_accuracies_tell_how_much_was_offloaded_and_corrections_that_lower(stub: Stub, call: Call) -> None:
    row = ACCURACY["accuracy"][0] | {"backend": "CUDA", "offload": "partial", "correction_bytes": -2 * 1024**2}
    stub.routes["GET /lilliput/plan/accuracy"] = 200, {"accuracy": [row]}
    lines = [" ".join(line.split()) for line in call("plan", "--accuracy").stdout.splitlines()]
    assert lines[1].startswith("llama CUDA (partial) b9000 3 150.0 MiB 153.0 MiB +2.0% -3.5% -2.0 MiB ")
    assert lines[4].startswith("llama CUDA (partial) ram kv ")


def test_without_loads_there_is_no_accuracy_to_show(stub: Stub, call: Call) -> None:
    stub.routes["GET /lilliput/plan/accuracy"] = 200, {"accuracy": []}
    result = call("plan", "--accuracy")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "nothing was loaded yet" in result.stderr


def test_described_machines_are_listed(stub: Stub, call: Call) -> None:
    stub.routes["GET /lilliput/machines"] = 200, MACHINES
    line = call("plan", "--machines").stdout.splitlines()[1]
    told = "pc-24gb 32.0 GiB 30.0 GiB 51.2 GB/s 8 CUDA0 24.0 GiB PC with a 24 GB card"
    assert line.split() == told.split()
    assert json.loads(call("plan", "--machines", "--json").stdout) == MACHINES
