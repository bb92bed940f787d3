"""What the doctor thinks of threads, AMX, heat and accelerators."""

from __future__ import annotations

from typing import Any

import pytest

from lilliput.hardware import Accelerator, Card, Cpu, Heat, NvidiaDetails, Zone
from lilliput.services.doctor.accelerators import judge_accelerators
from lilliput.services.doctor.processor import judge_amx, judge_heat, judge_threads
from lilliput.units import GIB

CPU = Cpu("x", "x86_64", physical_cores=8, logical_cores=16, usable_cores=16, simd=None)
COOL = Heat((Zone("cpu", 50.0, 95.0),), 5, 4e9, 4e9, 4e9)
NVIDIA = Card("NVIDIA", "pci", address="0000:01:00.0", driver="nvidia", opens=True)
AMD = Card("AMD", "pci", address="0000:02:00.0", driver="amdgpu", opens=True)
INTEL = Card("Intel", "pci", address="0000:00:02.0", driver="i915", opens=True)


@pytest.mark.parametrize(
    ("chosen", "verdict", "said"),
    [
        (None, "ok", "8 threads on 8 physical cores, 16 usable"),
        (8, "ok", "8 threads"),
        (5, "ok", "5 threads"),
        (4, "warning", "8 would be faster"),
        (12, "warning", "more than compute well (8)"),
        (64, "warning", "they take turns"),
    ],
)
def test_threads(chosen: int | None, verdict: str, said: str) -> None:
    found = judge_threads(chosen, CPU, {"m": "6"})
    assert found.verdict == verdict
    assert said in found.summary
    assert found.evidence["engines"] == ["m: 6"]
    assert found.remedy == (None if verdict == "ok" else "unset LILLIPUT_THREADS, or set it to 8")


@pytest.mark.parametrize(
    ("simd", "rungs", "verdict", "said"),
    [
        (("avx2",), ("native",), "ok", "announces no AMX"),
        (("amx_tile", "avx2"), ("native", "native"), "ok", "engines run with it"),
        (("amx_tile",), ("native", "no-amx"), "warning", "engines run without it (no-amx)"),
        (("amx_tile",), ("no-amx", "no-extra-buffers"), "warning", "safest ones (no-extra-buffers)"),
        (("avx2",), ("no-extra-buffers",), "warning", "safest ones (no-extra-buffers)"),
        (("amx_tile",), (), "unknown", "when a model is first loaded"),
        (None, ("native",), "unknown", "does not tell"),
    ],
)
def test_amx(simd: tuple[str, ...] | None, rungs: tuple[str, ...], verdict: str, said: str) -> None:
    found = judge_amx(simd, rungs)
    assert found.verdict == verdict
    assert said in found.summary
    assert found.evidence["rungs"] == sorted(set(rungs))


def card(*reasons: str) -> Accelerator:
    return Accelerator("CUDA0", "NVIDIA L4", "gpu", 8 * GIB, 8 * GIB, nvidia=NvidiaDetails(throttle_reasons=reasons))


@pytest.mark.parametrize(
    ("after", "accelerators", "busy", "verdict", "said"),
    [
        (COOL, (), True, "ok", "50 °C at most, the clock is at 100%"),
        (Heat(), (card(),), True, "ok", "nothing is slowed down"),
        (Heat(), (card("power cap"),), True, "ok", "nothing is slowed down"),
        (Heat(), (), True, "unknown", "neither temperatures nor clocks"),
        (Heat((Zone("cpu", 50.0, None),), 9), (), False, "problem", "for heat, 4 times"),
        (Heat(thermal_level=60), (), False, "problem", "thermal level 60"),
        (COOL, (card("hardware slowdown (heat or power)"),), False, "problem", "CUDA0: hardware slowdown"),
        (COOL, (card("heat (driver)"),), False, "warning", "CUDA0 is slowed down by heat"),
        (Heat((Zone("cpu", 93.0, 95.0),)), (), False, "warning", "cpu is at 93 °C, its limit is 95 °C"),
        (Heat((), None, 2e9, 4e9, 2e9), (), False, "warning", "keeps the processor at 50% of its clock"),
        (Heat((), None, 2e9, 4e9, 4e9), (), True, "warning", "at work at 50% of its clock"),
        (Heat((), None, 2e9, 4e9, 4e9), (), False, "ok", "the clock is at 50%"),
    ],
)
def test_heat(after: Heat, accelerators: tuple[Accelerator, ...], busy: bool, verdict: str, said: str) -> None:
    found = judge_heat(COOL, after, accelerators, busy=busy)
    assert found.verdict == verdict
    assert said in found.summary
    assert (found.remedy is not None) == (verdict in ("warning", "problem"))


def listed(description: str = "NVIDIA L4", backend: str = "CUDA", device_id: str | None = None) -> Accelerator:
    return Accelerator(f"{backend}0", description, "gpu", GIB, GIB, backend=backend, device_id=device_id)


@pytest.mark.parametrize(
    ("cards", "found_by_llama", "verdict", "said"),
    [
        ((), (), "ok", "shows no accelerator"),
        (None, (), "unknown", "does not tell what there is"),
        (None, (listed(),), "ok", "computes on CUDA0 (NVIDIA L4)"),
        ((), (listed(),), "ok", "computes on CUDA0 (NVIDIA L4)"),
        ((NVIDIA, INTEL), (listed(),), "ok", "computes on CUDA0"),
        ((NVIDIA,), (listed("Tesla", "Vulkan", "0000:01:00.0"),), "ok", "computes on Vulkan0"),
        ((NVIDIA, AMD), (listed("AMD Radeon", "Vulkan"),), "warning", "but not on the NVIDIA card"),
        ((Card("Apple", "macOS"),), (listed("Apple M3", "MTL"),), "ok", "computes on MTL0"),
        ((INTEL,), (), "warning", "Intel card at 0000:00:02.0"),
        ((INTEL, NVIDIA), (), "problem", "but models run on the processor"),
        ((AMD,), (), "problem", "but models run on the processor"),
    ],
)
def test_accelerators(
    cards: tuple[Card, ...] | None, found_by_llama: tuple[Accelerator, ...], verdict: str, said: str
) -> None:
    found = judge_accelerators(cards, found_by_llama, ("cpu",), None)
    assert found.verdict == verdict
    assert said in found.summary
    assert (found.remedy is None) == (verdict in ("ok", "unknown"))


@pytest.mark.parametrize(
    ("one", "backends", "remedy"),
    [
        (NVIDIA, ("cpu",), "`make install BACKEND=cuda`"),
        (AMD, ("cpu",), "`make install BACKEND=rocm`"),
        (INTEL, ("cpu",), "`make install BACKEND=vulkan`"),
        (Card("Apple", "macOS", opens=True), ("cpu",), "`make install BACKEND=metal`"),
        (NVIDIA, ("cpu", "cuda"), "its driver does not answer"),
        (AMD, ("hip",), "its driver does not answer"),
        (Card("NVIDIA", "pci", driver="nvidia", opens=False), ("cuda",), "docker run --gpus all"),
        (Card("NVIDIA", "pci", opens=False), ("cuda",), "install the driver of the NVIDIA card"),
    ],
)
def test_an_unused_card_has_a_remedy_of_its_own(one: Any, backends: tuple[str, ...], remedy: str) -> None:
    assert remedy in (judge_accelerators((one,), (), backends, None).remedy or "")


@pytest.mark.parametrize(("cards", "verdict"), [((NVIDIA,), "problem"), ((), "warning")])
def test_a_listing_that_failed_is_told(cards: tuple[Card, ...], verdict: str) -> None:
    found = judge_accelerators(cards, (), (), "the accelerators could not be listed")
    assert (found.verdict, found.summary) == (verdict, "the accelerators could not be listed")
