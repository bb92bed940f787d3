from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.hardware.test_nvidia import FakeNvml, card

from lilliput.hardware import Card, read_cards

Plant = Callable[[dict[str, str]], Path]

BUS = "sys/bus/pci/devices/"
NONE = FakeNvml()


def device(address: str, vendor: str, kind: str) -> dict[str, str]:
    return {f"{BUS}{address}/vendor": f"{vendor}\n", f"{BUS}{address}/class": f"{kind}\n"}


def test_cards_on_the_bus_are_those_that_can_compute(plant: Plant) -> None:
    root = plant(
        device("0000:00:00.0", "0x8086", "0x060000")
        | device("0000:00:02.0", "0x1af4", "0x030000")
        | device("0000:01:00.0", "0x10de", "0x030200")
        | device("0000:02:00.0", "0x1002", "0x120000")
        | {f"{BUS}0000:02:00.0/drm/renderD128/dev": "226:128\n", "dev/dri/renderD128": "", "dev/nvidiactl": ""}
    )
    assert read_cards(root, nvml=NONE) == (
        Card("NVIDIA", "pci", address="0000:01:00.0", opens=False),
        Card("AMD", "pci", address="0000:02:00.0", opens=True),
    )


def test_a_card_with_its_driver_and_device_file(plant: Plant) -> None:
    root = plant(
        device("0000:01:00.0", "0x10de", "0x030200") | {"dev/nvidia0": "", "sys/bus/pci/drivers/nvidia/bind": ""}
    )
    (root / BUS / "0000:01:00.0/driver").symlink_to(root / "sys/bus/pci/drivers/nvidia")
    assert read_cards(root, nvml=NONE) == (Card("NVIDIA", "pci", address="0000:01:00.0", driver="nvidia", opens=True),)


@pytest.mark.parametrize(
    ("files", "nvml", "expected"),
    [
        ({}, NONE, None),
        ({"sys/devices/system/cpu/online": "0"}, NONE, ()),
        ({"dev/nvidia0": ""}, NONE, (Card("NVIDIA", "device file", opens=True),)),
        ({}, FakeNvml(card(name="NVIDIA L4")), (Card("NVIDIA", "driver", name="NVIDIA L4", opens=True),)),
        ({"dev/dri/renderD128": ""}, NONE, (Card("other", "device file", opens=True),)),
    ],
)
def test_without_a_bus_drivers_and_device_files_tell(
    plant: Plant, files: dict[str, str], nvml: FakeNvml, expected: tuple[Card, ...] | None
) -> None:
    assert read_cards(plant(files), nvml=nvml) == expected


@pytest.mark.parametrize(("machine", "count"), [("arm64", 1), ("x86_64", 0)])
def test_every_mac_of_apples_own_has_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, count: int
) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert [card.maker for card in read_cards(tmp_path, nvml=NONE) or ()] == ["Apple"] * count
