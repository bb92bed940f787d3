"""The command on a terminal: conversations and bars."""

from __future__ import annotations

import json

import pytest
from tests.unit.client.documents import MACHINE, PLAN, USE_CASES
from tests.unit.client.stub import CHAT, MODEL, Answer, Paused, Stub, chat_chunk, environment, job, not_found

pytest.importorskip("pty", reason="only POSIX has such terminals", exc_type=ImportError)

from tests.unit.client.terminal import Terminal


def test_a_conversation_keeps_its_history_and_survives_interruptions(stub: Stub) -> None:
    paused = Paused(chat_chunk("I begin "))
    answers: list[Answer] = [CHAT, paused(), not_found("m"), CHAT]
    stub.routes["GET /health/ready"] = 200, {"status": "ready"}
    stub.routes["GET /lilliput/models/m"] = 200, MODEL
    stub.routes["POST /v1/chat/completions"] = lambda: answers.pop(0)
    terminal = Terminal("run", "m", "--system", "Be brief", "--verbose", env=environment(stub.url))
    terminal.expect("/help shows the commands")
    terminal.expect(">>> ")
    terminal.type("first\n")
    terminal.expect("Hello wörld")
    terminal.expect("answer 2 tokens")
    terminal.expect(">>> ")
    terminal.type("second\n")
    terminal.expect("I begin ")
    terminal.type("\x03")
    terminal.expect("(stopped)")
    terminal.expect(">>> ")
    terminal.type("third\n")
    terminal.expect("error: no model m")
    terminal.expect(">>> ")
    terminal.interrupt("/bye or Ctrl-D to leave")
    terminal.expect(">>> ")
    terminal.type("/help\n")
    terminal.expect("forget the conversation")
    terminal.expect(">>> ")
    terminal.type("/nonsense\n")
    terminal.expect("there is no command /nonsense")
    terminal.expect(">>> ")
    terminal.type("/clear\n")
    terminal.expect("begins anew")
    terminal.expect(">>> ")
    terminal.type("fourth\n")
    terminal.expect("Hello wörld")
    terminal.expect(">>> ")
    terminal.type("/bye\n")
    assert terminal.end() == 0
    paused.release()
    asked = [[message["content"] for message in body["messages"]] for body in stub.bodies("POST /v1/chat/completions")]
    assert asked == [
        ["Be brief", "first"],
        ["Be brief", "first", "Hello wörld", "second"],
        ["Be brief", "first", "Hello wörld", "second", "I begin ", "third"],
        ["Be brief", "fourth"],
    ]


def test_a_conversation_ends_with_the_input(stub: Stub) -> None:
    stub.routes["GET /health/ready"] = 200, {"status": "ready"}
    stub.routes["GET /lilliput/models/m"] = 200, MODEL
    terminal = Terminal("run", "m", env=environment(stub.url))
    terminal.expect(">>> ")
    terminal.type("\x04")
    assert terminal.end() == 0


def test_a_pull_on_a_terminal_draws_a_bar(stub: Stub) -> None:
    stub.routes["POST /lilliput/pulls"] = 202, job("queued")
    done = job("done", phase="done", completed_bytes=2**30, total_bytes=2**30, result={"name": "m", "reason": "fits"})
    stub.routes["GET /lilliput/jobs/j1/events"] = (json.dumps(done),)
    env = environment(stub.url, TERM="xterm", COLUMNS="120")
    terminal = Terminal("pull", "m", env=env)
    terminal.expect("taking m")
    terminal.expect("100%")
    terminal.expect("1.0 GiB of 1.0 GiB")
    terminal.expect("m is installed")
    assert terminal.end() == 0


def test_advice_asks_what_a_model_is_for(stub: Stub) -> None:
    stub.routes["GET /lilliput/use_cases"] = 200, USE_CASES
    stub.routes["GET /lilliput/plan"] = 200, PLAN
    terminal = Terminal("advise", "m", env=environment(stub.url, COLUMNS="80"))
    terminal.expect(" 2  coding")
    terminal.expect("What is it for?")
    terminal.type("2\n")
    terminal.expect("Start with Q4_K_M")
    terminal.expect("Next: lilliput pull")
    assert terminal.end() == 0
    assert stub.bodies("GET /lilliput/plan") == ["model=m&use_case=coding"]


def test_a_watched_machine_is_left_with_ctrl_c(stub: Stub) -> None:
    stub.routes["GET /lilliput/hardware"] = 200, MACHINE
    terminal = Terminal("hardware", "--watch", env=environment(stub.url, TERM="xterm", COLUMNS="80"))
    terminal.expect("0f3a9c1b2d4e5f60")
    terminal.type("\x03")
    terminal.expect("\x1b[?25h")
    assert terminal.end() == 0


def test_watched_engines_are_left_with_ctrl_c(stub: Stub) -> None:
    stub.routes["GET /lilliput/engines"] = 200, {"engines": [{"model": "m", "state": "ready"}]}
    terminal = Terminal("engines", "--watch", env=environment(stub.url, TERM="xterm", COLUMNS="120"))
    terminal.expect("ready")
    terminal.type("\x03")
    terminal.expect("\x1b[?25h")
    assert terminal.end() == 0


@pytest.mark.parametrize(("no_color", "coloured"), [("1", False), ("", True)])
def test_a_plan_has_colours_on_a_terminal_unless_they_are_refused(stub: Stub, no_color: str, *, coloured: bool) -> None:
    stub.routes["GET /lilliput/plan"] = 200, PLAN
    env = environment(stub.url, TERM="xterm-256color", COLUMNS="80", NO_COLOR=no_color)
    terminal = Terminal("plan", "m", env=env)
    terminal.expect("memory budget 8.0 GiB")
    terminal.expect("\x1b[36m█" if coloured else "  ram     ███")
    terminal.expect("lilliput pull")
    assert terminal.end() == 0
