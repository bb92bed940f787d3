from __future__ import annotations

import os
import sys
from pathlib import Path

import psutil
import pytest
from tests.support.model import smollm2_path

from lilliput.llama import ContextSettings, ModelSettings
from lilliput.llama.held_memory import Held, held_memory
from lilliput.llama.load_values import LoadRequest
from lilliput.llama.measure_load import measure_load
from lilliput.units import MIB

ROLLUP = """\
5592e4000000-7ffc17f80000 ---p 00000000 00:00 0                          [rollup]
Rss:              161000 kB
Pss:              150000 kB
Pss_Anon:          40000 kB
Pss_File:         110000 kB
Pss_Shmem:             0 kB
"""


def test_a_load_tells_its_buffers_and_what_the_process_held() -> None:
    settings = ModelSettings(str(smollm2_path()), gpu_layers=0, rung="no-extra-buffers")
    context = ContextSettings(512, 3, ubatch_tokens=32, threads=1, output_rows=3)
    loaded = measure_load(LoadRequest(settings, context, slots=2, steps=1))
    assert loaded.error is None
    assert loaded.buffers is not None
    assert loaded.buffers.weights["CPU_Mapped"] == pytest.approx(92.1 * MIB, abs=0.02 * MIB)
    assert loaded.buffers.cache_bytes == sum(loaded.buffers.kv.values()) == round(11.25 * MIB)
    assert loaded.used is not None
    assert loaded.started is not None
    assert loaded.used.rss_bytes > 90 * MIB


def test_a_refused_load_is_an_answer(tmp_path: Path) -> None:
    settings = ModelSettings(str(tmp_path / "none.gguf"))
    loaded = measure_load(LoadRequest(settings, ContextSettings(512, 1)))
    assert "none.gguf" in (loaded.error or "")
    assert loaded.buffers is None


def test_linux_tells_what_is_shared(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "smaps_rollup").write_text(ROLLUP)
    assert held_memory(7, tmp_path) == Held(161000 * 1024, 150000 * 1024, 40000 * 1024, 110000 * 1024)


def test_elsewhere_psutil_tells_what_no_other_process_has(tmp_path: Path) -> None:
    held = held_memory(os.getpid(), tmp_path)
    assert held.pss_bytes is None
    assert held.file_bytes is None
    assert held.anonymous_bytes is not None
    assert 0 < held.anonymous_bytes <= held.rss_bytes


def test_of_processes_that_may_not_be_looked_at_only_the_resident_set_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(process: psutil.Process) -> None:
        raise psutil.AccessDenied(process.pid)

    monkeypatch.setattr(psutil.Process, "memory_full_info", refuse)
    held = held_memory(os.getpid(), tmp_path)
    assert held == Held(held.rss_bytes)
    assert held.rss_bytes > 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts it")
def test_this_process_has_a_proportional_set_size() -> None:
    held = held_memory()
    assert held.pss_bytes is not None
    assert 0 < held.pss_bytes <= held.rss_bytes
