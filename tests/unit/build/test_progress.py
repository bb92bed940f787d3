"""What a person sees while llama.cpp is being built."""

from __future__ import annotations

import io

from build_progress import BuildProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_gets_a_line_now_and_then() -> None:
    out = io.StringIO()
    progress = BuildProgress(out, started_s=0, every_s=30)
    progress.feed("  [1/80] Building C object", now_s=5)
    progress.feed("  [20/80] Building C object", now_s=31)
    progress.feed("  [21/80] Building C object", now_s=33)
    progress.close()
    assert out.getvalue() == "  step 20 of 80 (25 %), 0:31 passed\n"


def test_a_terminal_gets_one_moving_line_that_is_cleared_at_the_end() -> None:
    out = Terminal()
    progress = BuildProgress(out, started_s=0)
    progress.feed("[1/4] cc", now_s=1)
    progress.feed("[3/4] cc", now_s=65)
    progress.close()
    assert "step 3 of 4 (75 %), 1:05 passed" in out.getvalue()
    assert out.getvalue().endswith("\r\x1b[K")
    assert "\n" not in out.getvalue()


def test_before_the_first_step_it_is_configuring() -> None:
    progress = BuildProgress(io.StringIO(), started_s=10)
    progress.feed("-- The C compiler identification is GNU 12.2.0", now_s=11)
    progress.feed("call array[1/2] in the middle of a line", now_s=12)
    assert progress.describe(13) == "configuring, 0:03 passed"
