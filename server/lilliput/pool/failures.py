"""What failed lately, for people who look later: until it is tried again, and not for ever. Times are passed in."""

from __future__ import annotations

from lilliput.errors import Busy, Cancelled, DoesNotFit, EngineDied, EngineLoadFailed, InvalidRequest, NotFound
from lilliput.pool.resident import EngineInfo, Resident

SHOWN_S = 600.0
MOST_SHOWN = 32
LAST_LINES = 20

_REFUSALS = (Busy, Cancelled, DoesNotFit, InvalidRequest, NotFound)
"""Who asked was told, and there was nothing wrong with an engine."""


class Failures:
    """Engines whose load failed, or that died, by what tells them apart; the oldest go first."""

    def __init__(self) -> None:
        self._failed: dict[str, EngineInfo] = {}

    def note(self, resident: Resident, error: BaseException, now: float) -> None:
        """An engine has failed at this unix time; a load that was refused has not."""
        if isinstance(error, _REFUSALS):
            return
        tail = error.log_tail if isinstance(error, EngineDied | EngineLoadFailed) else ()
        self.forget(resident.key)
        self._failed[resident.key] = EngineInfo(
            model=resident.model.name,
            role=resident.role,
            quantization=resident.model.quantization,
            state="failed",
            pid=None,
            context_tokens=None,
            slots=resident.slots,
            active=0,
            waiting=0,
            cached_tokens=0,
            memory_bytes=None,
            progress=0.0,
            settings={},
            loaded_at=resident.loaded_at,
            last_used_at=resident.last_used_at,
            load_s=None,
            degraded=resident.degraded,
            error=str(getattr(error, "message", error)),
            log_tail=tail[-LAST_LINES:],
            failed_at=now,
        )
        if len(self._failed) > MOST_SHOWN:
            del self._failed[next(iter(self._failed))]

    def forget(self, key: str) -> None:
        """It is tried again."""
        self._failed.pop(key, None)

    def list(self, now: float) -> tuple[EngineInfo, ...]:
        """Those of late, the oldest first."""
        self._failed = {key: one for key, one in self._failed.items() if now - (one.failed_at or 0.0) < SHOWN_S}
        return tuple(self._failed.values())
