"""Work that has only so much time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from lilliput.errors import DeadlineExceeded


def too_late(deadline_s: float) -> DeadlineExceeded:
    """The error of a request that was not done in so many seconds."""
    return DeadlineExceeded(
        f"the request was not done in the {deadline_s:g} s that it had",
        hint="give it a later deadline, ask for less at once, or load the model before",
    )


@contextlib.asynccontextmanager
async def until(deadline_s: float | None, *, gone_s: float = 0.0) -> AsyncIterator[None]:
    """Cancel the block when so many seconds are over, of which some have gone by, and raise DeadlineExceeded; None:
    never.
    """
    limit = asyncio.timeout(None if deadline_s is None else deadline_s - gone_s)
    try:
        async with limit:
            yield
    except TimeoutError:
        if deadline_s is None or not limit.expired():
            raise
        raise too_late(deadline_s) from None
