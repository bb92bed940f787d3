from __future__ import annotations

import struct

import pytest

from lilliput.engine.wire import (
    Accepted,
    Cancel,
    Done,
    Failed,
    FrameReader,
    FromWorker,
    Step,
    Submit,
    Text,
    TokenReport,
    ToWorker,
    encode_frame,
)
from lilliput.llama import SamplerSettings

STEP = Step(
    [
        Accepted(1, 12),
        Text(1, "héllo", (TokenReport(b"h\xc3", -0.5, ((b"x", -1.0),)),)),
        Done(2, "stop", 3, 2, 5, 0.1, 0.2),
        Failed(3, "context-exceeded", "too long", None, 10, 5),
    ],
    active=1,
    waiting=2,
    cached_tokens=3,
)


@pytest.mark.parametrize("size", [1, 3, 7, 10_000])
def test_frames_survive_being_cut_anywhere(size: int) -> None:
    stream = encode_frame(STEP) * 3
    reader = FrameReader(FromWorker)
    messages = [m for at in range(0, len(stream), size) for m in reader.feed(stream[at : at + size])]
    assert messages == [STEP, STEP, STEP]


def test_messages_to_the_worker_come_back_equal() -> None:
    submit = Submit(7, [1, 2, 3], SamplerSettings(temperature=0.0, logit_bias=((5, -1.5),)), stop=("a", "b"))
    frames = encode_frame(submit) + encode_frame(Cancel(7))
    assert list(FrameReader(ToWorker).feed(frames)) == [submit, Cancel(7)]


def test_an_impossible_length_is_refused_before_anything_is_kept() -> None:
    with pytest.raises(ValueError, match="impossible"):
        list(FrameReader(FromWorker).feed(struct.pack("<I", 2**31)))
