"""The machine that a plan is made for: this one now, with what its engines hold, or a described one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from lilliput.fit import RAM, Budget, Calibration, Device, assume, make_budget, share_out
from lilliput.hardware import Accelerator, Hardware, Machines
from lilliput.pool import Holding
from lilliput.services.plan_request import PlanDefaults
from lilliput.units import MIB

ASSUMED_BANDWIDTH_BYTES_S = 20e9
"""Two channels of DDR4 at the rate that slow machines reach; only until the real one is measured."""

ASSUMED_CARD_BANDWIDTH_BYTES_S = 200e9
"""A card with memory of its own, of the slower ones (128 bits of GDDR6); only until it is measured."""

_DRIVER_BYTES = {"CUDA": 300 * MIB, "ROCM": 300 * MIB, "SYCL": 300 * MIB, "MTL": 64 * MIB, "VULKAN": 64 * MIB}
"""What a backend's own context takes of a device. CUDA's is 150 to 250 MiB by llama.cpp users' measurements."""
_OTHER_DRIVER_BYTES = 150 * MIB


@dataclass(frozen=True, slots=True)
class Site:
    """A machine, what may be used of it by device, and what computing costs there.

    ``real`` is False for a described machine, whose accelerators this build cannot be asked about. Idle engines have no
    part in the budgets: they make room when a model is loaded. ``idle`` are those, ``busy`` the others, with the bytes
    that they hold by device.
    """

    hardware: Hardware
    budgets: Mapping[str, Budget]
    cpu: Calibration
    devices: tuple[Device, ...]
    real: bool
    idle: Mapping[str, Mapping[str, int]]
    busy: Mapping[str, Mapping[str, int]]


class Costs(Protocol):
    """What is known of the speed of processors."""

    def of_cpu(self, bandwidth_bytes_s: float, *, here: bool) -> Calibration:
        """The costs on this machine's CPU (``here``), or on another of which only the bandwidth is known."""
        ...

    def of_device(self, name: str) -> Calibration | None:
        """The costs on this machine's accelerator of that name, None where it was not measured."""
        ...


class Sites:
    """Finds the machine of a plan. ``hardware`` reads this one, in a thread; ``holdings`` is asked in the loop.

    ``refresh`` is awaited before this machine is read: what is free on its accelerators may be old.
    """

    def __init__(
        self,
        hardware: Callable[[], Hardware],
        machines: Machines,
        defaults: PlanDefaults,
        costs: Costs,
        holdings: Callable[[], Sequence[Holding]],
        refresh: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._hardware = hardware
        self._machines = machines
        self._defaults = defaults
        self._costs = costs
        self._holdings = holdings
        self._refresh = refresh

    async def find(
        self,
        machine: str | Mapping[str, Any] | None,
        budget_bytes: int | None,
        as_if_unloaded: Collection[str] = (),
    ) -> Site:
        """The site of a request; InvalidRequest for an unknown or impossible description.

        Engines of ``as_if_unloaded`` count as gone, and all that are idle.
        """
        if machine is None:
            if self._refresh is not None:
                await self._refresh()
            hardware = await asyncio.to_thread(self._hardware)
            held = tuple(self._holdings())
        else:
            hardware, held = self._described(machine), ()
        own = [one for one in held if one.name in as_if_unloaded]
        idle = [one for one in held if one.idle and one not in own]
        busy = [one for one in held if not one.idle and one not in own]
        gone = [*own, *idle]
        budgets = self.budgets(hardware, busy, budget_bytes, here=machine is None)
        budgets = {name: _without(budget, name, gone) for name, budget in budgets.items()}
        return Site(
            hardware=hardware,
            budgets=budgets,
            cpu=self._costs.of_cpu(_memory_bandwidth(hardware), here=machine is None),
            devices=devices_of(hardware, budgets, self._costs.of_device if machine is None else _never_measured),
            real=machine is None,
            idle={one.name: _bytes(one) for one in idle},
            busy={one.name: _bytes(one) for one in busy},
        )

    def budgets(
        self, hardware: Hardware, holdings: Sequence[Holding] = (), limit_bytes: int | None = None, *, here: bool = True
    ) -> dict[str, Budget]:
        """What may be used by device: main memory first, then each accelerator.

        The daemon's own limits hold ``here`` only, not on described machines.
        """
        defaults = self._defaults
        own_limit = defaults.limit_bytes if here else None
        limits = [limit for limit in (own_limit, limit_bytes) if limit is not None]
        budgets = {
            RAM: make_budget(
                hardware.memory,
                reserve_bytes=defaults.reserve_bytes,
                use_fraction=defaults.use_fraction,
                limit_bytes=min(limits, default=None),
                promised_bytes=sum(one.promised_bytes(RAM) for one in holdings),
                held_bytes=sum(one.held_bytes(RAM) for one in holdings),
            )
        }
        for accelerator in usable(hardware.accelerators):
            name, now = accelerator.name, accelerator.free_is_now
            free = accelerator.total_bytes if accelerator.free_bytes is None else accelerator.free_bytes
            budgets[name] = Budget(
                total_bytes=accelerator.total_bytes,
                available_bytes=free,
                reserve_bytes=defaults.vram_reserve_bytes,
                use_fraction=defaults.vram_use_fraction,
                limit_bytes=defaults.vram_limit_bytes if here else None,
                promised_bytes=sum(one.promised_bytes(name, measured_now=now) for one in holdings),
                measured_now=now,
                held_bytes=sum(one.held_bytes(name) for one in holdings),
            )
        return budgets

    def _described(self, machine: str | Mapping[str, Any]) -> Hardware:
        if isinstance(machine, str):
            return self._machines.get(machine).to_hardware()
        name = str(machine.get("name", "described"))
        table = {key: value for key, value in machine.items() if key != "name"}
        (found,) = Machines.from_mapping({name: table}, "machine")
        return found.to_hardware()


def _bytes(holding: Holding) -> dict[str, int]:
    return {device: need.total_bytes for device, need in holding.needs.items()}


def _without(budget: Budget, device: str, gone: Sequence[Holding]) -> Budget:
    """The budget when these engines have ended: what they touched is available again."""
    freed = sum(one.touched.get(device, 0) for one in gone) if budget.measured_now else 0
    return replace(budget, available_bytes=min(budget.total_bytes, budget.available_bytes + freed)) if freed else budget


def usable(accelerators: Sequence[Accelerator]) -> tuple[Accelerator, ...]:
    """Those on which llama.cpp puts layers, in its order.

    Matrix libraries without memory of their own are listed as accelerators, too. A card that two backends list counts
    once, and graphics within the processor only where there is no card (``llama_model_load_from_file_impl``).
    """
    able = [one for one in accelerators if one.kind in ("gpu", "igpu") and one.total_bytes > 0]
    cards: dict[str, Accelerator] = {}
    for one in able:
        if one.kind == "gpu":
            cards.setdefault(one.device_id or one.name, one)
    return tuple(cards.values() or able)


def devices_of(
    hardware: Hardware, budgets: Mapping[str, Budget], measured: Callable[[str], Calibration | None]
) -> tuple[Device, ...]:
    """The accelerators as placing layers needs them: shares by what may be used of each, which loads are told, too.

    llama.cpp's own shares go by what is free at the moment of the load, which may be something else by then.
    ``measured`` tells what computing costs on one; where it does not, that is assumed.
    """
    found = []
    for accelerator in usable(hardware.accelerators):
        backend = (accelerator.backend or accelerator.name.rstrip("0123456789")).upper()
        found.append(
            Device(
                name=accelerator.name,
                share=1.0,
                overhead_bytes=_DRIVER_BYTES.get(backend, _OTHER_DRIVER_BYTES),
                calibration=measured(accelerator.name) or _assumed(accelerator, hardware),
                max_tensor_bytes=accelerator.max_tensor_bytes,
            )
        )
    return share_out(found, {name: budget.budget_bytes for name, budget in budgets.items()})


def backend_of(devices: Iterable[str]) -> str:
    """The backends of accelerators that compute, by ggml's names without numbers: ``CUDA``; ``CPU`` when none does."""
    return "+".join(sorted({name.rstrip("0123456789") for name in devices})) or "CPU"


def _assumed(accelerator: Accelerator, hardware: Hardware) -> Calibration:
    """The costs of an accelerator that was not measured: only one without memory of its own reads at memory's rate."""
    shared = hardware.unified or accelerator.kind == "igpu"
    otherwise = _memory_bandwidth(hardware) if shared else ASSUMED_CARD_BANDWIDTH_BYTES_S
    bandwidth_bytes_s = accelerator.bandwidth_bytes_s or otherwise
    return assume(bandwidth_bytes_s, "unified" if shared else "gpu", flops=accelerator.flops)


def _memory_bandwidth(hardware: Hardware) -> float:
    """Bytes a second to reckon with. What the caches reach says only that memory is not faster."""
    known = hardware.bandwidth_bytes_s or ASSUMED_BANDWIDTH_BYTES_S
    return min(known, ASSUMED_BANDWIDTH_BYTES_S) if hardware.bandwidth_cache_bound else known


def _never_measured(_name: str) -> None:
    return None
