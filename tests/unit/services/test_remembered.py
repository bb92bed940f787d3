"""What is only remembered to save time is remembered all the same when the disk is full."""

from __future__ import annotations

import logging

import pytest

from lilliput.errors import DiskFull
from lilliput.services.remembered import Remembered


class Disk:
    """Facts on a disk that can be full."""

    def __init__(self) -> None:
        self.kept: dict[str, str] = {}
        self.full = False

    def get_fact(self, key: str) -> str | None:
        return self.kept.get(key)

    def set_fact(self, key: str, value: str) -> None:
        if self.full:
            raise DiskFull("the disk is full", hint="free some space")
        self.kept[key] = value


def test_a_full_disk_is_said_once_and_what_it_did_not_take_is_known_until_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    disk = Disk()
    remembered = Remembered(disk)
    remembered.set_fact("rung", "native")
    disk.full = True
    with caplog.at_level(logging.WARNING):
        remembered.set_fact("rung", "no-amx")
        remembered.set_fact("speed", "fast")
    assert (remembered.get_fact("rung"), remembered.get_fact("speed")) == ("no-amx", "fast")
    assert disk.kept == {"rung": "native"}
    assert [record.message for record in caplog.records] == [
        "what is found out is remembered until the end of this process only: the disk is full"
    ]


def test_what_the_disk_takes_again_is_read_from_there() -> None:
    disk = Disk()
    remembered = Remembered(disk)
    disk.full = True
    remembered.set_fact("rung", "no-amx")
    disk.full = False
    remembered.set_fact("rung", "native")
    disk.kept["rung"] = "written by another"
    assert remembered.get_fact("rung") == "written by another"
