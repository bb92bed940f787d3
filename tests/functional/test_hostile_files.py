"""Files that are wrong in a dozen ways, on their whole way through a daemon; ``make test-chaos`` plays a thousand."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.functional.conftest import ONE_THREAD, client_of
from tests.support.daemon import DaemonProcess
from tests.support.hostile import Mutation, corpus, sound
from tests.support.hostile.playing import play
from tests.support.watching import engines, wait_until

pytestmark = pytest.mark.functional

SAMPLE = {
    "a web page": "bad-file",
    "the count of tensors is 18446744073709551615": "bad-file",
    "llama.block_count is 4294967295": "works",
    "llama.block_count is 65536": "works",
    "llama.block_count is 3": None,
    "llama.context_length is 0": None,
    "llama.context_length as a long number": "works",
    "llama.attention.head_count is 0": None,
    "without tokenizer.ggml.tokens": None,
    "a vocabulary without bytes": None,
    "tokenizer.ggml.model long": "works",
    "a chat template without end": "works",
    "without blk.0.attn_q.weight": None,
    "blk.1.ffn_down.weight turned round": None,
    "all weights of nan": "works",
}
"""What is wrong, and what the pull says where that is certain."""


def test_the_sound_model_works_and_each_wrong_one_is_an_error_that_says_what_it_is(tmp_path: Path) -> None:
    wrong = [mutation for mutation in corpus() if mutation.name in SAMPLE]
    assert len(wrong) == len(SAMPLE)
    with DaemonProcess(tmp_path, ONE_THREAD) as daemon, client_of(daemon) as http:
        fates = asyncio.run(play(daemon.url, tmp_path, [Mutation("sound", sound().encode()), *wrong]))
        assert [fate.wrong for fate in fates if fate.wrong] == []
        told = {fate.name: fate for fate in fates}
        assert told["sound"].steps == ("works",) * 4
        assert {name: told[name].pulled for name, code in SAMPLE.items() if code} == {
            name: code for name, code in SAMPLE.items() if code
        }
        assert {told[f"llama.block_count is {count}"].completed for count in (65_536, 4_294_967_295)} == {"bad-file"}
        assert told["a chat template without end"].chatted == "template-failed"
        wait_until(lambda: {one["state"] for one in engines(http)} == {"failed"}, 10)  # the last one may be ending
        assert [one["name"] for one in http.get("/lilliput/models").json()["models"]] == ["smollm2:135m"]
        assert "Traceback" not in daemon.log
