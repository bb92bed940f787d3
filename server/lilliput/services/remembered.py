"""Facts that only save time: what the disk does not take is remembered until this process ends, and found out anew."""

from __future__ import annotations

import logging
from typing import Protocol

from lilliput.errors import StorageError

log = logging.getLogger(__name__)


class Facts(Protocol):
    """Where facts are kept between runs; calls may block."""

    def get_fact(self, key: str) -> str | None:
        """What was kept under ``key``."""
        ...

    def set_fact(self, key: str, value: str) -> None:
        """Keep ``value``; StorageError."""
        ...


class Remembered:
    """Facts in front of ``facts`` whose writing never fails. A call may come from any thread.

    For what was measured or asked for here; what somebody has decided must be refused where it cannot be kept.
    """

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._unsaved: dict[str, str] = {}

    def get_fact(self, key: str) -> str | None:
        """What was remembered last."""
        unsaved = self._unsaved.get(key)
        return self._facts.get_fact(key) if unsaved is None else unsaved

    def set_fact(self, key: str, value: str) -> None:
        """Keep ``value``, on disk where that is possible."""
        try:
            self._facts.set_fact(key, value)
        except StorageError as error:
            if not self._unsaved:
                log.warning("what is found out is remembered until the end of this process only: %s", error.message)
            self._unsaved[key] = value
        else:
            self._unsaved.pop(key, None)
