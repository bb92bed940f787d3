"""The bytes of one file on the Hub, by HTTP ranges: where they are, who sees the token, what answers mean."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lilliput.errors import HubError, LilliputError
from lilliput.hub.failures import from_any_status, from_status
from lilliput.hub.library import Library, Location, origin_of
from lilliput.hub.patience import Patience, Transient
from lilliput.hub.records import RemoteFile, Repository
from lilliput.hub.threads import detached

if TYPE_CHECKING:
    import httpx2

_EXPIRED_STATUSES = frozenset({401, 403, 404, 410})  # what a CDN says of a signed URL whose time is over
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


@dataclass(frozen=True, slots=True)
class Body:
    """An answer's bytes: ``chunks`` begin at byte ``start`` of the file, which is 0 when the server ignores ranges."""

    start: int
    chunks: AsyncIterator[bytes]


class RemoteBytes:
    """One file of a repository. Failures that may pass are ``Transient``; the location is asked anew after each."""

    def __init__(
        self, library: Library, client: httpx2.AsyncClient, patience: Patience, repository: Repository, file: RemoteFile
    ) -> None:
        self._library = library
        self._client = client
        self._patience = patience
        self._repository = repository
        self._file = file
        self._location: Location | None = None
        self._what = f"{repository.repo_id}/{file.path}"

    @asynccontextmanager
    async def open(self, start: int, stop: int | None = None) -> AsyncIterator[Body]:
        """Ask for the bytes from ``start`` up to ``stop`` (default: the end); leaving the context hangs up."""
        import httpx2  # late: slow to import

        location = await self._locate()
        token = await detached(self._library.token)
        headers = {"Accept-Encoding": "identity", **self._library.headers_for(location.url, token)}
        if start > 0 or stop is not None:
            headers["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"
        timeout = httpx2.Timeout(self._patience.stall_timeout_s, connect=self._patience.connect_timeout_s)
        try:
            async with self._client.stream("GET", location.url, headers=headers, timeout=timeout) as response:
                begins = self._begin(response, start, has_token=token is not None)
                async with aclosing(response.aiter_raw()) as chunks:
                    yield Body(begins, chunks)
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            self._location = None
            raise self._library.translate(error, self._what, place=_place(location.url, self._library)) from error
        except Transient:
            self._location = None
            raise

    async def read(self, start: int, size: int) -> bytes:
        """The ``size`` bytes at ``start``, fewer only at the end of the file."""
        stop = min(start + size, self._file.size_bytes)
        if stop <= start:
            return b""
        gathered = bytearray()
        async with self.open(start, stop) as body:
            skipped = start - body.start  # a server without ranges sends the beginning too
            async for chunk in body.chunks:
                gathered += chunk[min(skipped, len(chunk)) :]
                skipped -= min(skipped, len(chunk))
                if len(gathered) >= stop - start:
                    break
        if len(gathered) < stop - start:
            raise Transient(HubError(f"the connection ended inside {self._what}"))
        return bytes(gathered[: stop - start])

    async def _locate(self) -> Location:
        if self._location is None:
            location = await detached(
                self._library.locate, self._repository, self._file.path, self._patience.metadata_timeout_s
            )
            self._check(location)
            self._location = location
        return self._location

    def _check(self, location: Location) -> None:
        origin_of(location.url)
        other_digest = self._file.sha256 is not None and location.digest is not None and len(location.digest) == 64
        other_digest = other_digest and location.digest != self._file.sha256
        if other_digest or location.size_bytes not in (None, self._file.size_bytes):
            raise HubError(
                f"the Hub contradicts itself about {self._what}: its list and its headers give other sizes or digests",
                hint="try again later; if it stays, the repository may be damaged",
            )

    def _begin(self, response: httpx2.Response, start: int, *, has_token: bool) -> int:
        """The first byte's offset that a good answer has; raises for all others."""
        status = response.status_code
        if status == 200 and response.headers.get("content-encoding", "identity") == "identity":
            return 0
        if status == 206:
            match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
            if match is not None and int(match[1]) == start and match[2] in ("*", str(self._file.size_bytes)):
                return start
            raise Transient(HubError(f"the Hub sends another range of {self._what} than it was asked for"))
        raise self._refusal(response, has_token=has_token)

    def _refusal(self, response: httpx2.Response, *, has_token: bool) -> LilliputError | Transient:
        status, headers, endpoint = response.status_code, response.headers, self._library.endpoint
        url = str(response.url)
        if origin_of(url) == origin_of(endpoint) and status != 416:
            return from_status(
                status,
                headers,
                what=self._what,
                repo_id=self._repository.repo_id,
                endpoint=endpoint,
                has_token=has_token,
            )
        place = _place(url, self._library)
        if status in _EXPIRED_STATUSES or status == 416:
            return Transient(HubError(f"{place} refuses {self._what} (status {status})", hint="try again later"))
        return from_any_status(status, headers, what=self._what, place=place)


def _place(url: str, library: Library) -> str:
    """Who answers at ``url``, for messages; signed URLs are secrets, so no more than the host is said."""
    if origin_of(url) == origin_of(library.endpoint):
        return library.place
    return f"the file server {origin_of(url)[1]}"
