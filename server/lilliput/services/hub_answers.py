"""What the Hub says now about repositories that installed models came from: asked once each, for a few seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from lilliput.errors import LilliputError, RepositoryNotFound, VariantNotFound
from lilliput.hub import OnWait, Repository

_MOST_AT_ONCE = 4


class HubListing(Protocol):
    """The Hub, as far as its lists of files go."""

    async def repository(
        self, repo_id: str, revision: str = "main", *, on_wait: OnWait | None = None, brief: bool = False
    ) -> Repository:
        """A repository pinned to a commit; ``brief``: asked once only."""
        ...


@dataclass(frozen=True, slots=True)
class HubAnswer:
    """A repository; or that it (or the revision) is ``gone``; or, with neither, why nothing is known of it."""

    repository: Repository | None = None
    gone: bool = False
    reason: str | None = None


async def ask_hub(hub: HubListing, places: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str], HubAnswer]:
    """The answers for some repositories at some revisions; what cannot be asked is an answer, too."""
    turns = asyncio.Semaphore(_MOST_AT_ONCE)

    async def ask(place: tuple[str, str]) -> HubAnswer:
        async with turns:
            return await _ask(hub, *place)

    distinct = tuple(dict.fromkeys(places))
    return dict(zip(distinct, await asyncio.gather(*map(ask, distinct)), strict=True))


async def _ask(hub: HubListing, repo: str, revision: str) -> HubAnswer:
    try:
        return HubAnswer(await hub.repository(repo, revision, brief=True))
    except (RepositoryNotFound, VariantNotFound) as error:
        return HubAnswer(gone=True, reason=_told(error))
    except LilliputError as error:
        return HubAnswer(reason=_told(error))


def _told(error: LilliputError) -> str:
    return error.message if error.hint is None else f"{error.message} ({error.hint})"
