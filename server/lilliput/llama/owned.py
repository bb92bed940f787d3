"""C objects that are freed exactly once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Self


class Owned(ABC):
    """Holds the pointer to a C object in ``handle``; a context manager, and ``close`` may be called twice."""

    handle: Any

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the object; a second call does nothing."""
        if self.handle:
            self._free()
            self.handle = None

    @abstractmethod
    def _free(self) -> None:
        """Give ``handle`` back to the library."""
