"""A vocabulary by the first byte of its tokens: what a grammar refuses by one byte it need not be asked about again."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt


class FirstBytes:
    """Groups the tokens whose ``pieces`` begin with the same byte; ``end_tokens`` go with every group.

    A byte's probe is the token of just this byte. Where a grammar refuses it, it refuses its whole group, for it reads
    characters one after the other. A byte without a probe is always plausible. Tokens without text fit no grammar.
    """

    def __init__(self, pieces: Sequence[bytes], end_tokens: Iterable[int]) -> None:
        groups: dict[int, list[int]] = {}
        probes: dict[int, int] = {}
        ends = set(end_tokens)
        for token, piece in enumerate(pieces):
            if piece and token not in ends:
                groups.setdefault(piece[0], []).append(token)
                if len(piece) == 1:
                    probes.setdefault(piece[0], token)
        self._group_of_probe = {token: np.array(groups[byte], np.int32) for byte, token in probes.items()}
        unprobed = [token for byte, tokens in groups.items() if byte not in probes for token in tokens]
        self._always = np.array([*unprobed, *ends], np.int32)
        self.probes = tuple(self._group_of_probe)

    def behind(self, probes: Iterable[int]) -> npt.NDArray[np.int32]:
        """All tokens that may fit where these probes do, each once."""
        return np.concatenate([self._always, *(self._group_of_probe[probe] for probe in probes)])
