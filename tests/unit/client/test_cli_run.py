"""``lilliput run``: one question, and installing on the way."""

from __future__ import annotations

import json

import pytest
from tests.unit.client.conftest import Call
from tests.unit.client.documents import PLAN
from tests.unit.client.stub import CHAT, MODEL, Stub, chat_chunk, job, not_found

from lilliput_client import PromptDetails, Usage
from lilliput_client.cli.answering import Told, harmless, statistics


@pytest.fixture
def ready(stub: Stub) -> Stub:
    """A stub with one installed model that answers."""
    stub.routes["GET /health/ready"] = 200, {"status": "ready"}
    stub.routes["GET /lilliput/models/smollm2"] = 200, MODEL
    stub.routes["POST /v1/chat/completions"] = CHAT
    return stub


def asked(stub: Stub) -> list[dict[str, str]]:
    (body,) = stub.bodies("POST /v1/chat/completions")
    messages: list[dict[str, str]] = body["messages"]
    return messages


def test_a_question_is_answered_on_stdout_alone(ready: Stub, call: Call) -> None:
    result = call("run", "smollm2", "Say", "hello")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "Hello wörld\n", "")
    assert asked(ready) == [{"role": "user", "content": "Say hello"}]


def test_options_reach_the_daemon(ready: Stub, call: Call) -> None:
    call("run", "smollm2", "x", "--system", "Be brief", "--temperature", "0", "--max-tokens", "9", "--seed", "7")
    (body,) = ready.bodies("POST /v1/chat/completions")
    assert body["messages"][0] == {"role": "system", "content": "Be brief"}
    assert (body["model"], body["temperature"], body["max_tokens"], body["seed"]) == ("smollm2:135m", 0.0, 9, 7)


@pytest.mark.parametrize(("words", "text"), [((), "piped"), (("Review", "this:"), "Review this:\n\npiped")])
def test_what_is_piped_in_joins_the_question(ready: Stub, call: Call, words: tuple[str, ...], text: str) -> None:
    call("run", "smollm2", *words, stdin="piped\n")
    assert asked(ready)[0]["content"] == text


def test_an_answer_for_programs_is_one_document(ready: Stub, call: Call) -> None:
    told = json.loads(call("run", "smollm2", "x", "--json").stdout)
    assert told["text"] == "Hello wörld"
    assert (told["model"], told["finish_reason"]) == ("smollm2:135m", "stop")
    assert told["usage"]["completion_tokens"] == 2
    assert set(told["times"]) == {"first_token_s", "total_s", "tokens_per_s"}


def test_verbose_numbers_are_talk(ready: Stub, call: Call) -> None:
    result = call("run", "smollm2", "x", "--verbose")
    assert result.stdout == "Hello wörld\n"
    assert "prompt 5 tokens, answer 2 tokens, first token" in result.stderr


def test_an_empty_question_is_wrong_usage(ready: Stub, call: Call) -> None:
    assert call("run", "smollm2", stdin="\n").exit_code == 2


def test_an_error_in_mid_answer_keeps_what_was_said(ready: Stub, call: Call) -> None:
    died = json.dumps({"error": {"message": "the engine died", "type": "server_error", "code": "engine-died"}})
    ready.routes["POST /v1/chat/completions"] = (chat_chunk("Hel"), died, "[DONE]")
    result = call("run", "smollm2", "x")
    assert (result.exit_code, result.stdout) == (1, "Hel\n")
    assert result.stderr == "error: the engine died\n"


def test_a_model_that_is_missing_is_planned_and_installed_first(ready: Stub, call: Call) -> None:
    ready.routes["GET /lilliput/models/llama3.1:8b"] = not_found("llama3.1:8b")
    ready.routes["GET /lilliput/plan"] = 200, PLAN
    ready.routes["POST /lilliput/pulls"] = 202, job("queued")
    done = job("done", result={"name": "llama3.1:8b-q4_k_m", "size_bytes": 5, "reason": "fits"})
    ready.routes["GET /lilliput/jobs/j1/events"] = (json.dumps(done),)
    result = call("run", "llama3.1:8b", "x")
    assert (result.exit_code, result.stdout) == (0, "Hello wörld\n")
    order = ["is not installed", "memory budget 8.0 GiB", "taking llama3.1:8b-q4_k_m", "is installed"]
    assert [result.stderr.index(words) for words in order] == sorted(result.stderr.index(words) for words in order)
    assert ready.bodies("POST /v1/chat/completions")[0]["model"] == "llama3.1:8b-q4_k_m"


def test_what_is_installed_on_the_way_suits_the_use_case(ready: Stub, call: Call) -> None:
    ready.routes["GET /lilliput/models/llama3.1:8b"] = not_found("llama3.1:8b")
    ready.routes["GET /lilliput/plan"] = 200, PLAN
    ready.routes["POST /lilliput/pulls"] = 202, job("queued")
    ready.routes["GET /lilliput/jobs/j1/events"] = (json.dumps(job("done", result={"name": "x"})),)
    assert call("run", "llama3.1:8b", "--use-case", "coding", "x").exit_code == 0
    assert ready.bodies("GET /lilliput/plan") == ["model=llama3.1%3A8b&use_case=coding"]
    assert ready.bodies("POST /lilliput/pulls") == [{"model": "llama3.1:8b", "use_case": "coding"}]


def test_a_model_that_does_not_fit_is_not_downloaded(ready: Stub, call: Call) -> None:
    ready.routes["GET /lilliput/models/llama3.1:8b"] = not_found("llama3.1:8b")
    ready.routes["GET /lilliput/plan"] = 200, {**PLAN, "chosen": None}
    result = call("run", "llama3.1:8b", "x")
    assert (result.exit_code, result.stdout) == (3, "")
    assert not ready.bodies("POST /lilliput/pulls")


def test_what_does_not_fit_is_installed_by_force(ready: Stub, call: Call) -> None:
    ready.routes["GET /lilliput/models/llama3.1:8b"] = not_found("llama3.1:8b")
    ready.routes["GET /lilliput/plan"] = 200, {**PLAN, "chosen": None}
    ready.routes["POST /lilliput/pulls"] = 202, job("queued")
    ready.routes["GET /lilliput/jobs/j1/events"] = (json.dumps(job("done", result={"name": "x"})),)
    assert call("run", "llama3.1:8b", "--slots", "1", "--rope-scaling", "yarn", "--force", "x").exit_code == 0
    assert ready.bodies("GET /lilliput/plan") == ["model=llama3.1%3A8b&slots=1&rope_scaling=yarn"]
    pins = {"slots": 1, "rope_scaling": "yarn"}
    assert ready.bodies("POST /lilliput/pulls") == [{"model": "llama3.1:8b", **pins, "force": True}]


def test_what_is_installed_is_loaded_as_wanted_before_it_is_asked(ready: Stub, call: Call) -> None:
    ready.routes["POST /lilliput/engines"] = 200, {"model": "smollm2:135m", "state": "ready"}
    wanted = ("--use-case", "bulk", "--context", "4096", "--slots", "1", "--kv", "q8_0", "--gpu-layers", "0")
    assert call("run", "smollm2", *wanted, "--force", "x").stdout == "Hello wörld\n"
    pins = {"context": 4096, "use_case": "bulk", "slots": 1, "kv": "q8_0", "gpu_layers": 0}
    assert ready.bodies("POST /lilliput/engines") == [{"model": "smollm2", **pins, "force": True}]
    assert len(asked(ready)) == 1


def test_a_load_that_is_refused_is_told_and_nothing_is_asked(ready: Stub, call: Call) -> None:
    error = {"message": "m needs 2 GiB", "type": "invalid_request_error", "code": "does-not-fit", "hint": "force it"}
    ready.routes["POST /lilliput/engines"] = 507, {"error": error}
    result = call("run", "smollm2", "--slots", "9", "x")
    assert (result.exit_code, "m needs 2 GiB" in result.stderr) == (3, True)
    assert not ready.bodies("POST /v1/chat/completions")


def test_a_file_is_registered_without_a_plan(ready: Stub, call: Call) -> None:
    ready.routes["GET /lilliput/models//tmp/x.gguf"] = not_found("/tmp/x.gguf")
    ready.routes["POST /lilliput/pulls"] = 202, job("queued")
    ready.routes["GET /lilliput/jobs/j1/events"] = (json.dumps(job("done", result={"name": "x"})),)
    assert call("run", "/tmp/x.gguf", "hi").stdout == "Hello wörld\n"
    assert ready.bodies("POST /lilliput/pulls") == [{"model": "/tmp/x.gguf"}]


def test_a_strangers_404_installs_nothing(stub: Stub, call: Call) -> None:
    stub.routes["GET /health/ready"] = 200, {"status": "ready"}
    stub.routes["GET /lilliput/models/m"] = 404, "what?"
    result = call("run", "m", "x")
    assert result.exit_code == 1
    assert "another program" in result.stderr


def test_the_rate_is_the_daemons_own_when_it_tells_it() -> None:
    usage = Usage(10, 5, 15, PromptDetails(cached_tokens=4), decode_s=0.5)
    told = Told("m", "x", "stop", stopped=False, usage=usage, first_token_s=0.25, total_s=9.0)
    assert statistics(told) == (
        "prompt 10 tokens (4 cached), answer 5 tokens, first token 0.25 s, 10.0 tokens/s, total 9.00 s"
    )


def test_the_rate_is_measured_here_or_unknown() -> None:
    seen = Told("m", "x", "stop", stopped=False, usage=Usage(1, 5, 6), first_token_s=1.0, total_s=3.0)
    assert seen.tokens_per_s == 2.0
    unknown = Told("m", "", None, stopped=True, usage=None, first_token_s=None, total_s=3.0)
    assert statistics(unknown) == "- tokens/s, total 3.00 s"


def test_an_answer_cannot_drive_the_terminal() -> None:
    assert harmless("a\x1b[2Jb\r\x07\x9b\tc\nä\u2028") == "a[2Jb\tc\nä\u2028"
