"""Talking with a model line by line."""

from __future__ import annotations

import importlib
import sys
from contextlib import suppress

from lilliput_client import Client, DaemonUnreachable, LilliputClientError, Options
from lilliput_client.cli.answering import answer, statistics
from lilliput_client.cli.failures import explain
from lilliput_client.cli.output import talk

_PROMPT = ">>> "
_HELP = """\
/clear   forget the conversation so far
/help    show this
/bye     leave (so does Ctrl-D)
Ctrl-C stops an answer; the conversation goes on."""


class Conversation:
    """A chat with its history; lines that begin with a slash are commands."""

    def __init__(self, client: Client, model: str, options: Options, *, system: str | None, verbose: bool) -> None:
        self._client = client
        self._model = model
        self._options = options
        self._verbose = verbose
        self._start = [{"role": "system", "content": system}] if system else []
        self._messages = list(self._start)

    def run(self) -> None:
        """Ask for lines and answer them until the person leaves."""
        with suppress(ImportError):
            importlib.import_module("readline")  # its import gives input() line editing; not on every system
        talk(f"talking with {self._model}; /help shows the commands")
        while True:
            try:
                line = _ask().strip()
            except EOFError:
                talk("")
                return
            except KeyboardInterrupt:
                talk("\n/bye or Ctrl-D to leave")
                continue
            if line == "/bye":
                return
            self._take(line)

    def _take(self, line: str) -> None:
        if line == "/clear":
            self._messages = list(self._start)
            talk("the conversation begins anew")
        elif line == "/help":
            talk(_HELP)
        elif line.startswith("/"):
            talk(f"there is no command {line.split(maxsplit=1)[0]}; /help shows all")
        elif line:
            self._answer(line)

    def _answer(self, line: str) -> None:
        self._messages.append({"role": "user", "content": line})
        try:
            told = answer(self._client, self._model, self._messages, self._options)
        except DaemonUnreachable:
            raise
        except LilliputClientError as error:
            explain(error)
            self._messages.pop()
            return
        if told.text:
            self._messages.append({"role": "assistant", "content": told.text})
        else:
            self._messages.pop()
        if told.stopped:
            talk("(stopped)")
        if self._verbose:
            talk(statistics(told))


def _ask() -> str:
    if sys.stdout.isatty():
        return input(_PROMPT)
    sys.stderr.write(_PROMPT)  # stdout is somebody's data
    sys.stderr.flush()
    return input()
