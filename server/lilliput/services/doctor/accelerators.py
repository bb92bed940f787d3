"""What to think of accelerators: whether the build of llama.cpp can use what the machine has."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from lilliput.hardware import Accelerator, Card
from lilliput.services.doctor.finding import Evidence, Opinion

_BUILD = {"NVIDIA": "cuda", "AMD": "rocm", "Intel": "vulkan", "Apple": "metal", "other": "vulkan"}
"""The backend that a maker's cards are best used with, as ``BACKEND`` of the installation."""

_STRONG = frozenset({"NVIDIA", "AMD", "Apple"})
"""Makers whose unused cards cost much; others' are mostly graphics within the processor, often no faster than it."""

_GIVE = "give the container the device: docker run --gpus all (NVIDIA), or --device /dev/dri --device /dev/kfd"


def judge_accelerators(
    cards: Sequence[Card] | None, listed: Sequence[Accelerator], backends: Collection[str], problem: str | None
) -> Opinion:
    """``cards`` are what the system shows, None where it shows none of any kind; ``listed`` is what llama.cpp can put
    layers on, ``backends`` those it is built for.
    """
    evidence: Evidence = {
        "cards": [_shown(card) for card in cards or ()],
        "listed": [f"{one.name}: {one.description}" for one in listed],
        "backends": sorted(backends),
    }
    if problem is not None:
        remedy = "`lilliput hardware` tells when it works again; the daemon's log has more"
        return Opinion("problem" if cards else "warning", problem, evidence, remedy)
    unused = [card for card in cards or () if not _used(card, listed)]
    if listed:
        used = ", ".join(f"{one.name} ({one.description or 'accelerator'})" for one in listed)
        if not any(card.maker == "NVIDIA" for card in unused):
            return Opinion("ok", f"llama.cpp computes on {used}", evidence)
        return Opinion(
            "warning", f"llama.cpp computes on {used}, but not on the NVIDIA card", evidence, _remedy(unused, backends)
        )
    if cards is None:
        return Opinion(
            "unknown", "llama.cpp finds no accelerator, and this system does not tell what there is", evidence
        )
    if not cards:
        return Opinion("ok", "this machine shows no accelerator: models run on the processor", evidence)
    names = ", ".join(_shown(card) for card in cards)
    strong = any(card.maker in _STRONG for card in cards)
    return Opinion(
        "problem" if strong else "warning",
        f"this machine has an accelerator ({names}), but models run on the processor",
        evidence,
        _remedy(cards, backends),
    )


def _used(card: Card, listed: Sequence[Accelerator]) -> bool:
    """Whether llama.cpp lists the card: by its place on the bus, else by its maker."""
    if card.address is not None and any(one.device_id == card.address for one in listed):
        return True
    words = {"AMD": ("AMD", "RADEON"), "Intel": ("INTEL",), "NVIDIA": ("NVIDIA",)}.get(card.maker)
    if words is None:
        return bool(listed)
    return any(one.backend == "CUDA" and card.maker == "NVIDIA" for one in listed) or any(
        word in one.description.upper() for one in listed for word in words
    )


def _remedy(cards: Sequence[Card], backends: Collection[str]) -> str:
    first = next((card for card in cards if card.maker in _STRONG), cards[0])
    backend = _BUILD[first.maker]
    if first.opens is False and first.driver is None and first.source == "pci":
        return f"install the driver of the {first.maker} card; in a container, {_GIVE}"
    if first.opens is False:
        return _GIVE
    if {"cuda": "cuda", "rocm": "hip", "vulkan": "vulkan", "metal": "metal"}[backend] in backends:
        return f"llama.cpp is built for {backend}, but its driver does not answer: install or update the driver"
    return f"build llama.cpp for it: `make install BACKEND={backend}` (docs/install.md)"


def _shown(card: Card) -> str:
    name = card.name or f"{card.maker} card"
    return f"{name} at {card.address}" if card.address else name
