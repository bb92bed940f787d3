"""The daemon's end of a request for vectors: what has come so far, and the wait for the rest."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from lilliput.engine.wire import Embedded
from lilliput.errors import LilliputError


@dataclass(frozen=True, slots=True)
class Vectors:
    """One row for each input, little-endian float32 one after the other, and the tokens of each input."""

    rows: bytes
    token_counts: tuple[int, ...]


class PooledCall:
    """Gathers the parts of one answer; ``result`` is set with the last of them."""

    def __init__(self) -> None:
        self.result: asyncio.Future[Vectors] = asyncio.get_running_loop().create_future()
        self._rows: list[bytes] = []
        self._counts: list[int] = []

    def add(self, part: Embedded) -> None:
        """Take vectors of the next inputs."""
        self._rows.append(part.vectors)
        self._counts += part.token_counts
        if part.last and not self.result.done():
            self.result.set_result(Vectors(b"".join(self._rows), tuple(self._counts)))

    def fail(self, error: LilliputError) -> None:
        """End the wait with an error."""
        if not self.result.done():
            self.result.set_exception(error)
