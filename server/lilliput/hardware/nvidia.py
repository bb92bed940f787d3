"""What NVIDIA's management library adds to ggml's view, when the package ``nvidia-ml-py`` is installed.

Nothing here raises: a missing package, driver, card or single fact is None. The library stays initialised once it is.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from lilliput.hardware.accelerator import Accelerator, NvidiaDetails

_CORE_SENSOR = 0
"""``NVML_TEMPERATURE_GPU`` of nvml.h."""

_REASONS = {
    0x2: "clocks set by a user",
    0x4: "power cap",
    0x8: "hardware slowdown (heat or power)",
    0x10: "clocks kept equal across cards",
    0x20: "heat (driver)",
    0x40: "heat (hardware)",
    0x80: "external power brake",
    0x100: "display clocks",
    0x200: "board limit",
    0x400: "reliability voltage limit",
}
"""The bits of ``nvmlClocksEventReason*`` in nvml.h; 0x1 is idling, which is no fault."""


def with_nvidia(
    accelerators: Sequence[Accelerator], *, own_pids: Iterable[int] = (), nvml: Any = None
) -> tuple[Accelerator, ...]:
    """The same accelerators; NVIDIA's carry the driver's details and the memory that is free now.

    ``own_pids`` are processes of ours besides this one, such as engines. ``nvml`` stands for the module ``pynvml``.
    """
    if not any(_is_nvidia(accelerator) for accelerator in accelerators):
        return tuple(accelerators)
    library = nvml if nvml is not None else _start()
    cards = [] if library is None else _cards(library)
    own = frozenset(own_pids) | {os.getpid()}
    return tuple(
        accelerator if card is None else _detailed(library, accelerator, card, own)
        for accelerator, card in zip(accelerators, _match(library, accelerators, cards), strict=True)
    )


def nvidia_names(*, nvml: Any = None) -> tuple[str, ...]:
    """The cards that NVIDIA's driver manages, by name; empty without the package, a driver or a card."""
    library = nvml if nvml is not None else _start()
    cards = [] if library is None else _cards(library)
    return tuple(_text(_ask(library, "nvmlDeviceGetName", card)) for card in cards)


def _is_nvidia(accelerator: Accelerator) -> bool:
    return accelerator.backend == "CUDA" or "NVIDIA" in accelerator.description.upper()


@cache
def _start() -> Any:
    """The initialised module, None without the package or a driver; a driver that comes later is not noticed."""
    try:
        library = importlib.import_module("pynvml")
        library.nvmlInit()
    except Exception:
        return None
    return library


def _cards(library: Any) -> list[Any]:
    count = _ask(library, "nvmlDeviceGetCount") or 0
    handles = [_ask(library, "nvmlDeviceGetHandleByIndex", index) for index in range(count)]
    return [handle for handle in handles if handle is not None]


def _match(library: Any, accelerators: Sequence[Accelerator], cards: Sequence[Any]) -> list[Any]:
    """A card for each accelerator, or None: by bus address; without one by name, in order, if both sides agree."""
    buses = {_bus(getattr(_ask(library, "nvmlDeviceGetPciInfo", card), "busId", None)): card for card in cards}
    names = [_text(_ask(library, "nvmlDeviceGetName", card)) for card in cards]
    found = []
    for index, accelerator in enumerate(accelerators):
        card = None
        if accelerator.device_id is not None:
            card = buses.get(_bus(accelerator.device_id))
        elif _is_nvidia(accelerator):
            same = [card for card, name in zip(cards, names, strict=True) if name == accelerator.description]
            alike = [place for place, other in enumerate(accelerators) if _kin(other) == _kin(accelerator)]
            card = same[alike.index(index)] if len(same) == len(alike) else None
        found.append(card)
    return found


def _kin(accelerator: Accelerator) -> tuple[str | None, str]:
    """The same card may be listed by two backends: only those of one backend are counted."""
    return accelerator.backend, accelerator.description


def _bus(address: Any) -> str:
    """A PCI address as ggml writes it, in lower case and the domain without needless zeros: ``0000:c1:00.0``."""
    domain, _, place = _text(address).lower().partition(":")
    return f"{domain.lstrip('0'):0>4}:{place}"


def _text(value: Any) -> str:
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value or "")


def _detailed(library: Any, accelerator: Accelerator, card: Any, own: frozenset[int]) -> Accelerator:
    memory = _ask(library, "nvmlDeviceGetMemoryInfo", card)
    details = NvidiaDetails(
        used_bytes=_number(memory, "used"),
        others_bytes=_others(library, card, own),
        utilisation_percent=_number(_ask(library, "nvmlDeviceGetUtilizationRates", card), "gpu"),
        temperature_c=_ask(library, "nvmlDeviceGetTemperature", card, _CORE_SENSOR),
        throttle_reasons=_throttled(library, card),
    )
    free = _number(memory, "free")
    return replace(accelerator, free_bytes=accelerator.free_bytes if free is None else free, nvidia=details)


def _others(library: Any, card: Any, own: frozenset[int]) -> int | None:
    """Memory of other processes; None when the driver cannot list them or does not tell the memory of one.

    A process that computes and draws is in both lists with the same figure.
    """
    held: dict[int, int | None] = {}
    for question in ("nvmlDeviceGetComputeRunningProcesses", "nvmlDeviceGetGraphicsRunningProcesses"):
        processes = _ask(library, question, card)
        if processes is None:
            return None
        held.update({process.pid: _number(process, "usedGpuMemory") for process in processes})
    others = [used for pid, used in held.items() if pid not in own]
    return None if None in others else sum(used for used in others if used is not None)


def _throttled(library: Any, card: Any) -> tuple[str, ...] | None:
    """The newer call's name says "events"; older packages and drivers know only the other."""
    for question in ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"):
        bits = _ask(library, question, card)
        if isinstance(bits, int):
            return tuple(word for bit, word in _REASONS.items() if bits & bit)
    return None


def _number(holder: Any, name: str) -> int | None:
    value = getattr(holder, name, None)
    return value if isinstance(value, int) else None


def _ask(library: Any, question: str, *arguments: Any) -> Any:
    """The answer, or None whatever goes wrong: every card refuses some question, every version lacks one."""
    try:
        return getattr(library, question)(*arguments)
    except Exception:
        return None
