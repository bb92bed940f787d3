"""The real command as a process: exit codes, stdout and stderr, signals, and the daemons it starts."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tests.unit.client.stub import MODEL, Paused, Stub, chat_chunk, command, environment, job, lilliput

posix = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")

FAKE_DAEMON = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

here = Path(__file__).parent
(here / "started.json").write_text(json.dumps({"arguments": sys.argv[1:], "pid": os.getpid()}))
if os.environ.get("FAKE_DAEMON") == "prints":
    sys.exit(7)
if os.environ.get("FAKE_DAEMON") == "fails":
    print("the disk is on fire", flush=True)
    sys.exit(9)

class Handler(BaseHTTPRequestHandler):
    def answer(self, status, content):
        self.send_response(status)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        asked = here / "asked"
        first = not asked.exists()
        asked.touch()
        if self.path == "/health/ready":
            self.answer(503 if first else 200, json.dumps({"status": "starting" if first else "ready"}).encode())
        else:
            self.answer(200, json.dumps({"name": "m"}).encode())

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        if os.environ.get("FAKE_DAEMON") == "dies":
            print("killed by a bad file", flush=True)
            os._exit(1)
        self.answer(200, b'data: {"choices": [{"delta": {"content": "hi"}}]}\\n\\ndata: [DONE]\\n\\n')

    def log_message(self, *_):
        pass

port = int(sys.argv[sys.argv.index("--port") + 1])
HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def fake_daemon(tmp_path: Path) -> Path:
    """A folder with a package ``lilliput`` that is a daemon of sorts and writes ``started.json``."""
    package = tmp_path / "lilliput"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(FAKE_DAEMON)
    return tmp_path


def started(folder: Path) -> dict[str, object]:
    told: dict[str, object] = json.loads((folder / "lilliput" / "started.json").read_text())
    return told


def free_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_an_unreachable_daemon_has_its_own_exit_code() -> None:
    result = lilliput("list", env=environment(free_url()))
    assert (result.returncode, result.stdout) == (4, "")
    assert result.stderr.startswith("error: no daemon answers at http://127.0.0.1:")
    assert "hint: start one with: lilliput serve" in result.stderr


def test_an_unreachable_daemon_is_told_to_programs_on_stdout() -> None:
    result = lilliput("ps", "--json", env=environment(free_url()))
    assert result.returncode == 4
    assert json.loads(result.stdout)["error"]["code"] == "daemon-unreachable"


@pytest.mark.parametrize(
    "arguments", [("nonsense",), ("show",), ("plan", "m", "--context", "many"), ("run", "m", "--json")]
)
def test_wrong_usage_has_its_own_exit_code(arguments: tuple[str, ...]) -> None:
    result = lilliput(*arguments, env=environment(free_url()))
    assert (result.returncode, result.stdout) == (2, "")
    assert "Error" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("list", "--json", "--bogus"), "--bogus"),
        (("jobs", "list", "--json", "--bogus"), "--bogus"),
        (("--bogus", "list", "--json"), "--bogus"),
        (("nonsense", "--json"), "nonsense"),
        (("show", "--json"), "MODEL"),
    ],
)
def test_wrong_usage_is_told_to_programs_too(arguments: tuple[str, ...], message: str) -> None:
    result = lilliput(*arguments, env=environment(free_url()))
    assert result.returncode == 2
    assert result.stderr.startswith("Usage: lilliput")
    error = json.loads(result.stdout)["error"]
    assert error["code"] == "usage"
    assert message in error["message"]
    assert error["hint"]


def test_what_follows_two_dashes_asks_for_nothing() -> None:
    result = lilliput("list", "--bogus", "--", "--json", env=environment(free_url()))
    assert (result.returncode, result.stdout) == (2, "")


def test_a_wrong_address_is_an_error() -> None:
    result = lilliput("list", env=environment(LILLIPUT_PORT="http"))
    assert result.returncode == 1
    assert "LILLIPUT_PORT='http' is not a port" in result.stderr


def test_the_address_may_be_given_as_an_option(stub: Stub) -> None:
    stub.routes["GET /lilliput/models"] = 200, {"models": []}
    result = lilliput("--url", stub.url, "list", "--json", env=environment(free_url()))
    assert (result.returncode, json.loads(result.stdout)) == (0, {"models": []})


def test_a_proxy_is_not_asked_for_this_machines_daemon(stub: Stub) -> None:
    stub.routes["GET /lilliput/models"] = 200, {"models": []}
    nowhere = free_url()
    result = lilliput(
        "list", "--json", env=environment(stub.url, http_proxy=nowhere, HTTP_PROXY=nowhere, ALL_PROXY=nowhere)
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("words", [[], ["plan"], ["advise"], ["hardware"]])
def test_help_does_not_wait_for_heavy_imports(words: list[str]) -> None:
    code = (
        "import sys\n"
        "from lilliput_client.cli import main\n"
        f"sys.argv = ['lilliput', *{words}, '--help']\n"
        "try:\n    main()\n"
        "finally:\n"
        "    heavy = sorted({'httpx', 'rich', 'msgspec', 'asyncio'} & set(sys.modules))\n"
        "    print('heavy', heavy, file=sys.stderr)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stderr.strip() == "heavy []"
    assert "Examples:" in result.stdout


def test_the_daemon_is_served_with_the_given_options(fake_daemon: Path) -> None:
    arguments = ["--port", "8000", "--data-dir", "d", "--memory-limit", "6GiB", "--future-option", "x", "--flag"]
    result = lilliput("serve", *arguments, env=environment(path=fake_daemon, FAKE_DAEMON="prints"))
    assert result.returncode == 7
    assert started(fake_daemon)["arguments"] == arguments


def test_the_context_is_handed_on_under_its_settings_name(fake_daemon: Path) -> None:
    lilliput("serve", "--context", "4096", env=environment(path=fake_daemon, FAKE_DAEMON="prints"))
    assert started(fake_daemon)["arguments"] == ["--context-tokens", "4096"]


@posix
def test_the_daemon_takes_the_commands_place(fake_daemon: Path) -> None:
    env = environment(path=fake_daemon, FAKE_DAEMON="prints")
    with subprocess.Popen(command("serve"), env=env, stdin=subprocess.DEVNULL) as process:
        process.wait(60)
    assert started(fake_daemon)["pid"] == process.pid


def test_without_a_daemon_one_is_started_for_the_call_and_ended(fake_daemon: Path) -> None:
    result = lilliput("run", "m", "x", env=environment(free_url(), fake_daemon))
    assert (result.returncode, result.stdout) == (0, "hi\n")
    assert result.stderr == "no daemon answers: starting one for this call\n"
    told = started(fake_daemon)
    assert isinstance(told["arguments"], list)
    assert told["arguments"][:3] == ["--host", "127.0.0.1", "--port"]
    assert not alive(told["pid"])


def test_a_daemon_that_fails_to_start_shows_its_log(fake_daemon: Path) -> None:
    result = lilliput("run", "m", "x", env=environment(free_url(), fake_daemon, FAKE_DAEMON="fails"))
    assert (result.returncode, result.stdout) == (1, "")
    assert "the disk is on fire" in result.stderr
    assert "error: the daemon ended with exit code 9 while starting" in result.stderr


def test_a_daemon_that_dies_in_mid_call_shows_its_log(fake_daemon: Path) -> None:
    result = lilliput("run", "m", "x", env=environment(free_url(), fake_daemon, FAKE_DAEMON="dies"))
    assert result.returncode == 4
    assert "killed by a bad file" in result.stderr


def test_another_machines_daemon_is_not_replaced(fake_daemon: Path) -> None:
    result = lilliput("run", "m", "x", env=environment("http://lilliput.invalid:1726", fake_daemon))
    assert result.returncode == 4
    assert not (fake_daemon / "lilliput" / "started.json").exists()


def alive(pid: object) -> bool:
    assert isinstance(pid, int)
    if os.name != "posix":
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@posix
def test_interrupting_a_pull_cancels_it_and_says_how_to_go_on(stub: Stub) -> None:
    paused = Paused(json.dumps(job(phase="downloading")))
    stub.routes["POST /lilliput/pulls"] = 202, job("queued")
    stub.routes["GET /lilliput/jobs/j1/events"] = paused
    stub.routes["DELETE /lilliput/jobs/j1"] = 200, job("cancelled")
    with piped("pull", "m", env=environment(stub.url)) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("downloading")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    paused.release()
    assert (process.returncode, out) == (130, "")
    assert err == "cancelled; what is there is kept, go on with: lilliput pull m\n"
    assert stub.bodies("DELETE /lilliput/jobs/j1") == [""]


@posix
def test_interrupting_an_answer_keeps_what_was_said(stub: Stub) -> None:
    paused = Paused(chat_chunk("Hel\n"))
    stub.routes["GET /health/ready"] = 200, {"status": "ready"}
    stub.routes["GET /lilliput/models/m"] = 200, MODEL
    stub.routes["POST /v1/chat/completions"] = paused
    with piped("run", "m", "x", env=environment(stub.url)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "Hel\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    paused.release()
    assert (process.returncode, out, err) == (130, "", "")


def piped(*arguments: str, env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments),
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
