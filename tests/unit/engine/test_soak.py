"""The soak of the engine in short; ``make soak-engine`` runs it for ten minutes."""

from __future__ import annotations

import pytest
from tests.soak.engine import SHORT, report, soak
from tests.soak.machine import Bench

from lilliput.llama.model import Model


@pytest.mark.parametrize("drafts", [False, True])
def test_whatever_happens_every_answer_is_as_alone_and_every_cell_accounted_for(model: Model, drafts: bool) -> None:
    bench = Bench(model, drafts=drafts)
    soak(bench, SHORT, lambda: True)
    bench.close()
    assert bench.figures.ended > 0, report(bench.figures, 0, 0, 0)
