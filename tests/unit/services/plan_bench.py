"""Plans over a Hub, a store and a machine that are given, with the real planner and llama.cpp's own dry runs."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.support.model_headers import LLAMA_70B, q2_k

from lilliput.catalogue import FamilyName, FamilySize, InstalledFile, InstalledModel
from lilliput.errors import LilliputError, ModelNotFound
from lilliput.fit import NO_REPACKING, Calibration, QualityTable, Repacking, UseCases, assume
from lilliput.gguf import Header
from lilliput.hardware import Accelerator, Cpu, Hardware, Machines, Memory, read_tables
from lilliput.hub import OnWait, RemoteFile, Repository
from lilliput.llama import build_digest
from lilliput.pool import Holding
from lilliput.services import LoadPlans, Oracle, Plan, PlanDefaults, Planner, Plans, Sites
from lilliput.shipped import shipped
from lilliput.units import GIB

REPO = "example/Llama-3.1-70B-Instruct-GGUF"
STEM = "Llama-3.1-70B-Instruct"
SIZES = {"Q8_0": 74_980, "Q6_K": 57_890, "Q4_K_M": 42_520, "Q3_K_M": 34_270, "Q2_K": 26_380}
"""Megabytes of Llama 3.1 70B as published."""

QUALITY = QualityTable.from_mapping(read_tables(shipped("quality.toml")))
CASES = UseCases.from_mapping(read_tables(shipped("use_cases.toml")))
MACHINES = Machines.from_mapping(read_tables(shipped("machines.toml")))

FAST_BYTES_S = 4000e9
"""Memory so fast that every variant reaches its target: then quality decides."""


def file(path: str, megabytes: float) -> RemoteFile:
    return RemoteFile(path, round(megabytes * 10**6), sha256="0" * 64)


def repository(*extra: RemoteFile, sizes: Mapping[str, float] = SIZES) -> Repository:
    files = [file(f"{STEM}-{name}.gguf", size) for name, size in sizes.items()]
    return Repository(REPO, "a" * 40, (*files, file("mmproj-F16.gguf", 800), file("README.md", 1), *extra))


class FakeHub:
    """One repository; every file has ``header``, or its own of ``headers``. A ``gate`` holds readings back."""

    def __init__(self, found: Repository | None = None, header: Header | None = None) -> None:
        self.found = found or repository()
        self.header = header or LLAMA_70B.header(q2_k)
        self.headers: dict[str, Header] = {}
        self.read: list[str] = []
        self.brief: list[bool] = []
        self.error: LilliputError | None = None
        self.gate: asyncio.Event | None = None
        self.on_wait: OnWait | None = None

    async def repository(self, repo_id: str, *, brief: bool = False) -> Repository:
        self.brief.append(brief)
        if self.error is not None:
            raise self.error
        assert repo_id == REPO
        return self.found

    async def read_header(self, repository: Repository, path: str, *, on_wait: OnWait | None = None) -> Header:
        self.read.append(path)
        self.on_wait = on_wait
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return self.headers.get(path, self.header)


class FakeFamilies:
    def resolve(self, name: FamilyName) -> FamilySize:
        if name.family != "llama3.1":
            raise ModelNotFound(f"no family is called {name.family!r}")
        return FamilySize("llama3.1", "70b", REPO, "Llama 3.1")

    def __iter__(self) -> Iterator[FamilySize]:
        yield self.resolve(FamilyName("llama3.1"))


class FakeStore:
    def __init__(self, *models: InstalledModel) -> None:
        self.models = models
        self.facts: dict[str, str] = {}

    def installed(self) -> tuple[InstalledModel, ...]:
        return self.models

    def get_fact(self, key: str) -> str | None:
        return self.facts.get(key)

    def set_fact(self, key: str, value: str | None) -> None:
        if value is None:
            self.facts.pop(key, None)
        else:
            self.facts[key] = value


class KeptFacts:
    def __init__(self) -> None:
        self.kept: dict[str, str] = {}

    def get_fact(self, key: str) -> str | None:
        return self.kept.get(key)

    def set_fact(self, key: str, value: str) -> None:
        self.kept[key] = value


SHARED = KeptFacts()
"""Answers of dry runs, so that each model is asked about once for all tests."""


class Bench:
    """Plans over fakes, with 64 GiB of memory unless told otherwise. Costs and corrections are its own."""

    def __init__(self) -> None:
        self.hub = FakeHub()
        self.store = FakeStore()
        self.memory_bytes = 64 * GIB
        self.available_bytes: int | None = None
        self.accelerators: tuple[Accelerator, ...] = ()
        self.unified = False
        self.defaults = PlanDefaults(slots=1, use_fraction=1.0, reserve_bytes=0)
        self.bandwidth_bytes_s = FAST_BYTES_S
        self.memory_bandwidth: tuple[float | None, bool | None] = (None, None)
        self.met: list[tuple[frozenset[str], bool]] = []
        self.measured: dict[str, Calibration] = {}
        self.correction_bytes = 0
        self.corrected: set[tuple[str, str]] = set()
        self.repacking = NO_REPACKING
        self.held: tuple[Holding, ...] = ()
        self.facts = SHARED
        self._made: list[Plans] = []

    @property
    def plans(self) -> Plans:
        made = Plans(self.hub, self.store, FakeFamilies(), self.planner)
        self._made.append(made)
        return made

    @property
    def loads(self) -> LoadPlans:
        return LoadPlans(self.store, self.planner, self.defaults)

    @property
    def planner(self) -> Planner:
        oracle = Oracle(self.facts, build_digest(), lambda: [one.name for one in self.accelerators])
        return Planner(oracle, self.sites, QUALITY, CASES, self.defaults, self, self.on_types, repacks=self)

    @property
    def sites(self) -> Sites:
        return Sites(self.hardware, MACHINES, self.defaults, self, self._holdings)

    def hardware(self) -> Hardware:
        cpu = Cpu("Example 9000", "x86_64", 8, 16, 16, ("avx2",))
        available = self.memory_bytes if self.available_bytes is None else self.available_bytes
        memory = Memory(self.memory_bytes, available, self.memory_bytes)
        return Hardware(
            "Linux",
            "6",
            cpu,
            memory,
            self.accelerators,
            bandwidth_bytes_s=self.memory_bandwidth[0],
            bandwidth_cache_bound=self.memory_bandwidth[1],
            unified=self.unified,
        )

    def on_types(self, types: Collection[str], /, *, experts: bool) -> None:
        self.met.append((frozenset(types), experts))

    def of_cpu(self, bandwidth_bytes_s: float, *, here: bool) -> Calibration:
        return assume(self.bandwidth_bytes_s if here else bandwidth_bytes_s, "cpu")

    def of_device(self, name: str) -> Calibration | None:
        return self.measured.get(name)

    def overhead_bytes(self, architecture: str, backend: str, offload: str) -> int:
        assert architecture
        self.corrected.add((backend, offload))
        return self.correction_bytes

    def prepare(self) -> None:
        """Nothing takes time here."""

    async def of(self, kinds: Collection[frozenset[str]]) -> dict[frozenset[str], Repacking]:
        return dict.fromkeys(kinds, self.repacking)

    def _holdings(self) -> Sequence[Holding]:
        return self.held

    async def aclose(self) -> None:
        for plans in self._made:
            await plans.aclose()


def installed(path: Path, name: str, content: bytes, **fields: Any) -> InstalledModel:
    """A model of a file with this content below ``path``."""
    target = path / f"{name.replace(':', '-').replace('/', '-')}.gguf"
    target.write_bytes(content)
    return InstalledModel(name, "file", (InstalledFile(target, target.stat().st_size),), **fields)


def reasons(plan: Plan) -> dict[str, str]:
    """Why each variant is taken or not."""
    return {variant.name: variant.reason for variant in plan.variants}
