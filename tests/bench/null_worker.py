"""An engine worker without a model: it speaks the worker's protocol and generates as fast as its daemon takes it.

Run by ``tests.bench.null_daemon`` in the place of the real one. Once ``NULL_ENGINE_STREAMS`` requests are open, it
sends one frame a step with one token of every request, each ended by its ``max_tokens``; ``NULL_ENGINE_STEP_S``
seconds lie between steps (0: none, the socket alone holds it back).
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import sys
import time
from collections.abc import Sequence

from lilliput.engine.counters import Counters
from lilliput.engine.transport import SECRET_BYTES, connect
from lilliput.engine.wire import (
    Accepted,
    Cancel,
    Done,
    Event,
    FrameReader,
    FromWorker,
    Ready,
    Start,
    Step,
    Submit,
    Text,
    ToWorker,
    encode_frame,
)
from lilliput.llama import Buffers

STREAMS_VARIABLE = "NULL_ENGINE_STREAMS"
STEP_VARIABLE = "NULL_ENGINE_STEP_S"
PIECES = (" the", " sea", " is", ' "blue"', ",", " and", " wide\n", " über")
"""What it says, in turn: as long as tokens are, some with characters that JSON must escape."""


def main() -> None:
    """Entry point, with the real worker's arguments."""
    parser = argparse.ArgumentParser(prog="tests.bench.null_worker")
    parser.add_argument("--connect", required=True)
    streams = int(os.environ.get(STREAMS_VARIABLE, "1"))
    argument = parser.parse_args().connect
    greeting = b"" if argument.startswith("fd:") else sys.stdin.buffer.read(SECRET_BYTES)
    NullWorker(connect(argument, greeting), streams, float(os.environ.get(STEP_VARIABLE, "0"))).serve()


class NullWorker:
    """Answers submissions over ``connection``; the first ``streams`` of them begin together."""

    def __init__(self, connection: socket.socket, streams: int, step_s: float) -> None:
        self._socket = connection
        self._streams = streams
        self._step_s = step_s
        self._frames = FrameReader(ToWorker)
        self._left: dict[int, int] = {}
        self._texts: Sequence[bytes] = ()
        self._counters = Counters()

    def serve(self) -> None:
        """Load nothing, then answer until the daemon is gone."""
        while True:
            idle = not self._left or self._streams > 0
            if idle or select.select([self._socket], [], [], 0)[0]:
                data = self._socket.recv(1 << 16)
                if not data:
                    return
                for message in self._frames.feed(data):
                    self._take(message)
                self._texts = ()
            if self._left and self._streams <= 0:
                self._step()

    def _take(self, message: object) -> None:
        if isinstance(message, Start):
            self._send(_ready(message))
        elif isinstance(message, Submit):
            self._left[message.id] = message.max_tokens or 1
            self._streams -= 1
            self._send(self._news([Accepted(message.id, 1)]))
        elif isinstance(message, Cancel):
            self._left.pop(message.id, None)

    def _step(self) -> None:
        """Send tokens until somebody has had all of his; the frames between two changes are encoded once."""
        if not self._texts:
            self._texts = [encode_frame(self._news([Text(one, piece) for one in self._left])) for piece in PIECES]
        steps = min(self._left.values())
        sent = 0
        while sent < steps:
            self._socket.sendall(self._texts[sent % len(PIECES)])
            sent += 1
            self._counters.steps += 1
            if self._step_s:
                time.sleep(self._step_s)
            if sent % 64 == 0 and select.select([self._socket], [], [], 0)[0]:
                break
        self._left = {one: left - sent for one, left in self._left.items()}
        ended = [one for one, left in self._left.items() if left == 0]
        if ended:
            self._left = {one: left for one, left in self._left.items() if left > 0}
            self._texts = ()
            self._send(self._news([Done(one, "length", 1, 0, sent, 0.1, 0.1) for one in ended]))

    def _news(self, events: list[Event]) -> Step:
        return Step(events, len(self._left), 0, 0, cells=len(self._left), counters=self._counters)

    def _send(self, message: FromWorker) -> None:
        self._socket.sendall(encode_frame(message))


def _ready(start: Start) -> Ready:
    return Ready(
        context_tokens=start.context.context_tokens,
        trained_context_tokens=start.context.context_tokens,
        vocab_size=1,
        adds_bos=False,
        bos_text="",
        eos_text="",
        chat_template="{{ messages[0].content }}",
        system_info="",
        load_s=0.0,
        buffers=Buffers({}, {}, {}, {}, ()),
    )


if __name__ == "__main__":
    main()
