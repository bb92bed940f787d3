from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from lilliput.hardware import Accelerator, NvidiaDetails, nvidia, with_nvidia
from lilliput.units import GIB, MIB

OWN, OTHER, ENGINE = os.getpid(), 999_001, 999_002


def card(bus: str = "00000000:C1:00.0", name: str = "NVIDIA Example", **facts: Any) -> SimpleNamespace:
    given = {"used": 5 * GIB, "free": 19 * GIB, "compute": {}, "graphics": {}, "bits": 0, "load": 37, "heat": 61}
    return SimpleNamespace(bus=bus, name=name, **(given | facts))


class FakeNvml:
    """The calls of ``pynvml`` that are used, over a list of cards; ``broken`` names calls that raise."""

    def __init__(self, *cards: SimpleNamespace, broken: tuple[str, ...] = ()) -> None:
        self._cards = cards
        self._broken = broken

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvml") and name in self._broken:
            raise AttributeError(name)
        return super().__getattribute__(name)

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self._cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> SimpleNamespace:  # noqa: N802
        return self._cards[index]

    def nvmlDeviceGetPciInfo(self, one: SimpleNamespace) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(busId=one.bus.encode())

    def nvmlDeviceGetName(self, one: SimpleNamespace) -> str:  # noqa: N802
        return str(one.name)

    def nvmlDeviceGetMemoryInfo(self, one: SimpleNamespace) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(used=one.used, free=one.free, total=one.used + one.free)

    def nvmlDeviceGetUtilizationRates(self, one: SimpleNamespace) -> SimpleNamespace:  # noqa: N802
        return SimpleNamespace(gpu=one.load, memory=0)

    def nvmlDeviceGetTemperature(self, one: SimpleNamespace, sensor: int) -> int:  # noqa: N802
        assert sensor == 0
        return int(one.heat)

    def nvmlDeviceGetComputeRunningProcesses(self, one: SimpleNamespace) -> list[SimpleNamespace]:  # noqa: N802
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in one.compute.items()]

    def nvmlDeviceGetGraphicsRunningProcesses(self, one: SimpleNamespace) -> list[SimpleNamespace]:  # noqa: N802
        return [SimpleNamespace(pid=pid, usedGpuMemory=used) for pid, used in one.graphics.items()]

    def nvmlDeviceGetCurrentClocksEventReasons(self, one: SimpleNamespace) -> int:  # noqa: N802
        return int(one.bits)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, one: SimpleNamespace) -> int:  # noqa: N802
        return int(one.bits)


def gpu(name: str = "CUDA0", device_id: str | None = "0000:c1:00.0", backend: str = "CUDA", **more: Any) -> Accelerator:
    given: dict[str, Any] = {"description": "NVIDIA Example", "kind": "gpu", "total_bytes": 24 * GIB, "free_bytes": GIB}
    return Accelerator(name=name, backend=backend, device_id=device_id, **(given | more))


def details(accelerator: Accelerator, library: FakeNvml, **options: Any) -> NvidiaDetails | None:
    (found,) = with_nvidia([accelerator], nvml=library, **options)
    return found.nvidia


def test_a_card_gets_the_drivers_details_and_the_memory_that_is_free_now() -> None:
    (found,) = with_nvidia([gpu()], nvml=FakeNvml(card()))
    assert found.free_bytes == 19 * GIB
    assert found.nvidia == NvidiaDetails(5 * GIB, 0, 37, 61, ())


def test_memory_of_others_is_that_of_processes_which_are_not_ours() -> None:
    busy = card(compute={OWN: GIB, ENGINE: 2 * GIB, OTHER: 300 * MIB}, graphics={OTHER: 300 * MIB, 1: 100 * MIB})
    found = details(gpu(), FakeNvml(busy), own_pids=[ENGINE])
    assert found is not None
    assert found.others_bytes == 400 * MIB


def test_a_process_whose_memory_is_secret_makes_the_sum_unknown() -> None:
    found = details(gpu(), FakeNvml(card(compute={OTHER: None})))
    assert found is not None
    assert found.others_bytes is None


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (0x0, ()),
        (0x1, ()),
        (0x4, ("power cap",)),
        (0x61, ("heat (driver)", "heat (hardware)")),
        (1 << 40, ()),
    ],
)
@pytest.mark.parametrize("broken", [(), ("nvmlDeviceGetCurrentClocksEventReasons",)])
def test_throttling_is_told_in_words(bits: int, words: tuple[str, ...], broken: tuple[str, ...]) -> None:
    found = details(gpu(), FakeNvml(card(bits=bits), broken=broken))
    assert found is not None
    assert found.throttle_reasons == words


def test_cards_are_matched_by_address_and_not_by_order() -> None:
    library = FakeNvml(card("00000000:01:00.0", free=GIB), card("00010000:C1:00.0", free=2 * GIB))
    found = with_nvidia([gpu("CUDA0", "10000:c1:00.0"), gpu("CUDA1", "0000:01:00.0")], nvml=library)
    assert [one.free_bytes for one in found] == [2 * GIB, GIB]


def test_a_card_seen_through_vulkan_is_matched_too() -> None:
    assert details(gpu("Vulkan0", backend="Vulkan"), FakeNvml(card())) is not None


def test_without_addresses_the_same_number_of_cards_of_that_name_is_matched_in_order() -> None:
    library = FakeNvml(card(free=GIB), card(name="NVIDIA Other", free=7), card(free=2 * GIB))
    found = with_nvidia([gpu("CUDA0", None), gpu("CUDA1", None)], nvml=library)
    assert [one.free_bytes for one in found] == [GIB, 2 * GIB]


@pytest.mark.parametrize("seen", [[gpu("CUDA0", None)], [gpu("CUDA0", "0000:77:00.0")]])
def test_a_card_that_cannot_be_told_apart_stays_as_it_was(seen: list[Accelerator]) -> None:
    assert with_nvidia(seen, nvml=FakeNvml(card(), card("00000000:02:00.0"))) == tuple(seen)


def test_every_question_that_fails_leaves_one_fact_unknown() -> None:
    questions = tuple(name for name in dir(FakeNvml) if name.startswith("nvmlDeviceGet"))
    silent = tuple(name for name in questions if not name.endswith(("Count", "HandleByIndex", "PciInfo")))
    (found,) = with_nvidia([gpu()], nvml=FakeNvml(card(), broken=silent))
    assert (found.free_bytes, found.nvidia) == (GIB, NvidiaDetails())
    assert with_nvidia([gpu()], nvml=FakeNvml(card(), broken=questions)) == (gpu(),)


def test_a_machine_without_such_cards_does_not_load_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nvidia, "_start", lambda: pytest.fail("the library was loaded"))
    others = [gpu(backend="ROCm", description="AMD Example"), gpu(backend="MTL", description="Apple M2")]
    assert with_nvidia(others) == tuple(others)


@pytest.mark.parametrize("fault", ["absent", "no driver"])
def test_without_the_package_or_a_driver_nothing_is_added(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    def refuse() -> None:
        raise RuntimeError("NVML Shared Library Not Found")

    monkeypatch.setitem(sys.modules, "pynvml", None if fault == "absent" else SimpleNamespace(nvmlInit=refuse))
    nvidia._start.cache_clear()
    try:
        assert with_nvidia([gpu()]) == (gpu(),)
    finally:
        nvidia._start.cache_clear()


def test_the_installed_package_is_started_once(monkeypatch: pytest.MonkeyPatch) -> None:
    library = FakeNvml(card())
    starts: list[int] = []
    library.nvmlInit = lambda: starts.append(1)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pynvml", library)
    nvidia._start.cache_clear()
    try:
        assert with_nvidia([gpu()])[0].nvidia is not None
        assert with_nvidia([gpu()])[0].nvidia is not None
    finally:
        nvidia._start.cache_clear()
    assert len(starts) == 1
