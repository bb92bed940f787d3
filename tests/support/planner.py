"""The planner over described machines, put together as the daemon does it but without one."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.shapes import ShapeFile

from lilliput.fit import Calibration, QualityTable, UseCases, assume
from lilliput.gguf import FileSource, read_header
from lilliput.hardware import Machines, read_hardware, read_tables
from lilliput.services.machine import Sites
from lilliput.services.model_facts import ModelFacts, facts_of
from lilliput.services.oracle import Oracle
from lilliput.services.plan_request import PlanDefaults
from lilliput.services.planning import Planner
from lilliput.services.repacks import Repacks
from lilliput.services.variant_offers import EVERY_TYPE, Entry, would_be
from lilliput.shipped import shipped


@dataclass
class Remembered:
    """Facts in memory."""

    kept: dict[str, str] = field(default_factory=dict)

    def get_fact(self, key: str) -> str | None:
        return self.kept.get(key)

    def set_fact(self, key: str, value: str | None) -> None:
        self.kept[key] = value or ""


class Assumed:
    """Speeds from bandwidth alone, overhead as the formula has it."""

    def of_cpu(self, bandwidth_bytes_s: float, *, here: bool) -> Calibration:
        return assume(bandwidth_bytes_s, "cpu")

    def of_device(self, name: str) -> Calibration | None:
        return None

    def overhead_bytes(self, architecture: str, backend: str, offload: str) -> int:
        return 0


def make_planner(
    defaults: PlanDefaults | None = None, *, facts: Remembered | None = None, repacks: Repacks | None = None
) -> tuple[Planner, Oracle]:
    """A planner over the shipped machines, use cases and qualities, and the oracle that it asks."""
    machines = Machines.from_mapping(read_tables(shipped("machines.toml")))
    defaults, oracle = defaults or PlanDefaults(), Oracle(facts or Remembered(), "tests", list)
    planner = Planner(
        oracle,
        Sites(read_hardware, machines, defaults, Assumed(), tuple),
        QualityTable.from_mapping(read_tables(shipped("quality.toml"))),
        UseCases.from_mapping(read_tables(shipped("use_cases.toml"))),
        defaults,
        Assumed(),
        repacks=repacks,
    )
    return planner, oracle


def read_shape(shape: ShapeFile) -> ModelFacts:
    """The facts of a model of this shape in full precision."""
    with tempfile.TemporaryDirectory() as directory:
        path = shape.write(Path(directory) / "shape.gguf")
        with FileSource(path) as source:
            header = read_header(source)
    return facts_of([header], 0)


PUBLISHED = tuple(kind for kind in EVERY_TYPE if kind not in ("TQ1_0", "TQ2_0", "MXFP4_MOE"))
"""The types that makers publish of any model; the others are for models that were trained in them."""


async def repository(oracle: Oracle, facts: ModelFacts, types: tuple[str, ...] = PUBLISHED) -> tuple[Entry, ...]:
    """What a repository of the model would list, with exact sizes, as if the variants existed."""
    answers = await oracle.ask(facts.digest, facts.header, [], types)
    made = would_be((), facts, answers.mixes)
    return tuple(Entry(one.name, one.quantization, (f"{one.name}.gguf",), one.file_bytes) for one in made)
