"""From token bytes to text that may be shown: whole characters only, and never a part of a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class TextAssembler:
    """Joins token bytes into text, holding back incomplete UTF-8 and whatever may be the beginning of a stop string.

    In the first ``unexamined`` pieces no stop string is looked for.
    """

    def __init__(self, stops: Sequence[str], unexamined: int = 0) -> None:
        self._unexamined = unexamined
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._stops = tuple(stop for stop in stops if stop)
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""
        self.stopped = False

    @property
    def holds_back(self) -> bool:
        """Whether some text is kept because a stop string might begin in it."""
        return bool(self._held)

    def feed(self, piece: bytes) -> str:
        """Text that is certain after ``piece``; a complete stop string sets ``stopped`` and is not returned."""
        text = self._decoder.decode(piece)
        if not self._stops:
            return text
        if self._unexamined:
            self._unexamined -= 1
            return text
        self._held += text
        starts = [at for at in (self._held.find(stop) for stop in self._stops) if at >= 0]
        if starts:
            self.stopped = True
            shown, self._held = self._held[: min(starts)], ""
            return shown
        keep = self._possible_start()
        shown, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return shown

    def finish(self) -> str:
        """What was held back, once it is known that nothing follows; a cut-off character becomes U+FFFD."""
        rest = self._held + self._decoder.decode(b"", final=True)
        self._held = ""
        return rest

    def _possible_start(self) -> int:
        """Length of the longest end of the held text that begins some stop string."""
        for size in range(min(len(self._held), self._longest - 1), 0, -1):
            end = self._held[-size:]
            if any(stop.startswith(end) for stop in self._stops):
                return size
        return 0
