"""How long forward passes take, learnt while they run, and how much of a prompt one may carry. Pure: the runner has
the clock.
"""

from __future__ import annotations

FIRST_CHUNK_TOKENS = 64
"""Before anything was measured."""

LEAST_CHUNK_TOKENS = 8
"""So that a prompt gets on however slow the machine is."""

_STEP_FACTOR = 1.5
_WEIGHT = 0.2
_MOST_CHANGE = 3.0


class Pace:
    """Seconds of a pass by the number of sequences that generate in it, and of a prompt's token.

    A pass that carries prompt tokens beside generating sequences may take ``gap_s``, or 1.5 times as long as without
    them where that is more: so a long prompt never makes running streams pause for longer, and still gets on.
    """

    def __init__(self, gap_s: float, batch_tokens: int) -> None:
        self.gap_s = gap_s
        self._batch_tokens = batch_tokens
        self._decode_s: dict[int, float] = {}
        self._alone_token_s: float | None = None
        self._beside_token_s: float | None = None

    @property
    def prompt_token_s(self) -> float | None:
        """Seconds of a prompt's token where nothing else runs, or beside others where that alone is known."""
        return self._beside_token_s if self._alone_token_s is None else self._alone_token_s

    def note(self, generating: int, prompt_tokens: int, seconds: float) -> None:
        """A pass of so many generated and prompt tokens took ``seconds``."""
        if not prompt_tokens:
            self._decode_s[generating] = _towards(self._decode_s.get(generating), seconds)
        elif prompt_tokens >= LEAST_CHUNK_TOKENS:
            token_s = max(seconds - self.decode_s(generating), seconds / 10) / prompt_tokens
            if generating:
                self._beside_token_s = _towards(self._beside_token_s, token_s)
            else:
                self._alone_token_s = _towards(self._alone_token_s, token_s)

    def decode_s(self, generating: int) -> float:
        """Seconds of a pass for so many sequences and no prompt; of the nearest known number, 0 when none is."""
        if not generating or not self._decode_s:
            return 0.0
        known = self._decode_s.get(generating)
        return (
            known if known is not None else self._decode_s[min(self._decode_s, key=lambda one: abs(one - generating))]
        )

    def chunk_tokens(self, generating: int) -> int:
        """Prompt tokens that the next pass may carry beside so many generating sequences.

        A token costs more in a small chunk than in a whole batch: until it was seen in one, little is risked.
        """
        if not generating:
            return self._batch_tokens
        most = self._batch_tokens if self._beside_token_s is not None else min(FIRST_CHUNK_TOKENS, self._batch_tokens)
        token_s = self.prompt_token_s if self._beside_token_s is None else self._beside_token_s
        if token_s is None:
            return most
        decode_s = self.decode_s(generating)
        spare_s = max(self.gap_s, _STEP_FACTOR * decode_s) - decode_s
        return max(LEAST_CHUNK_TOKENS, min(most, int(spare_s / token_s)))


def _towards(known: float | None, seen: float) -> float:
    """The known value moved towards the seen one; a single odd pass (the machine paused) counts little."""
    if known is None:
        return seen
    bounded = min(max(seen, known / _MOST_CHANGE), known * _MOST_CHANGE)
    return known + _WEIGHT * (bounded - known)
