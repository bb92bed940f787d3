"""Work that has only so much time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from lilliput.errors import DeadlineExceeded


@contextlib.asynccontextmanager
async def until(deadline_s: float | None) -> AsyncIterator[None]:
    """Cancel the block after so many seconds and raise DeadlineExceeded; None: never."""
    limit = asyncio.timeout(deadline_s)
    try:
        async with limit:
            yield
    except TimeoutError:
        if not limit.expired():
            raise
        raise DeadlineExceeded(
            f"the request was not done in the {deadline_s:g} s that it had",
            hint="give it a later deadline, or ask for less at once",
        ) from None
