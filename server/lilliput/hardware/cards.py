"""Cards that this machine shows without llama.cpp: on the PCI bus, as device files, in NVIDIA's driver, Apple's GPU."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lilliput.hardware.nvidia import nvidia_names
from lilliput.hardware.text import read_word

Maker = Literal["NVIDIA", "AMD", "Intel", "Apple", "other"]

_MAKERS: dict[str, Maker] = {"0x10de": "NVIDIA", "0x1002": "AMD", "0x8086": "Intel"}
"""PCI vendors whose graphics llama.cpp computes on. All others (server consoles, virtual screens) do not compute."""

_COMPUTES = ("0x03", "0x12", "0x0b40")
"""PCI classes: display controllers, processing accelerators, co-processors."""


@dataclass(frozen=True, slots=True)
class Card:
    """A card as the system shows it. ``source`` says who: ``pci``, ``device file``, ``driver`` or ``macOS``.

    ``address`` is that of the bus; ``opens`` whether this process finds the device file that computing needs, None
    where nobody can tell.
    """

    maker: Maker
    source: str
    name: str | None = None
    address: str | None = None
    driver: str | None = None
    opens: bool | None = None


def read_cards(root: Path = Path("/"), *, nvml: Any = None) -> tuple[Card, ...] | None:
    """The cards of the machine whose ``/sys`` and ``/dev`` lie under ``root``; None where none is seen, nor would be.

    Windows and Macs with Intel processors show only NVIDIA's, and only where ``nvidia-ml-py`` is installed.
    """
    found = [*_on_the_bus(root)]
    if not any(card.maker == "NVIDIA" for card in found):
        names = nvidia_names(nvml=nvml)
        found += [Card("NVIDIA", "driver", name=name, opens=True) for name in names]
        if not names and (root / "dev/nvidia0").exists():
            found.append(Card("NVIDIA", "device file", opens=True))
    if not found and any((root / "dev/dri").glob("renderD*")):
        found.append(Card("other", "device file", opens=True))  # a graphics core of a system on a chip
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        found.append(Card("Apple", "macOS", name="Apple GPU", opens=True))
    return tuple(found) if found or (root / "sys/devices").is_dir() else None


def _on_the_bus(root: Path) -> list[Card]:
    found = []
    for device in sorted((root / "sys/bus/pci/devices").glob("*")):
        maker = _MAKERS.get(read_word(device / "vendor"))
        if maker is not None and read_word(device / "class").startswith(_COMPUTES):
            driver = device / "driver"
            name = driver.resolve().name if driver.exists() else None
            found.append(Card(maker, "pci", address=device.name, driver=name, opens=_opens(root, maker, device)))
    return found


def _opens(root: Path, maker: Maker, device: Path) -> bool:
    """Whether the device file is there: a container has none unless it was given one."""
    if maker == "NVIDIA":
        return any((root / "dev").glob("nvidia[0-9]*")) or (root / "dev/dxg").exists()
    nodes = [node.name for node in (device / "drm").glob("renderD*")]
    return any((root / "dev/dri" / node).exists() for node in nodes)
