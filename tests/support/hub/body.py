"""Bodies of files: ranges, and faults in the middle of them."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from tests.support.hub.faults import Fault, LogEntry
from tests.support.hub.repositories import ServedFile

_BLOCK_BYTES = 64 * 1024
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


class ConnectionCutError(Exception):
    """Raised inside a body so that the server drops the connection."""


def file_response(
    request: Request, file: ServedFile, entry: LogEntry, fault: Fault | None, headers: dict[str, str]
) -> Response:
    """200, 206 or 416 for one file, with ``headers`` added; HEAD gets no body."""
    total = file.size_bytes
    headers = {
        **headers,
        "Accept-Ranges": "bytes",
        "ETag": f'"{file.etag}"',
        "Content-Type": "application/octet-stream",
    }
    start, stop, status = 0, total, 200
    match = _RANGE.fullmatch(request.headers.get("range", ""))
    if match is not None and not (fault and fault.no_range):
        start = int(match[1])
        stop = min(int(match[2]) + 1, total) if match[2] else total
        if start >= total or stop <= start:
            return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{total}"})
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{total}"
        status = 206
    headers["Content-Length"] = str(stop - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return StreamingResponse(
        _body(file, start, stop, entry, fault or Fault(match="")), status_code=status, headers=headers
    )


async def _body(file: ServedFile, start: int, stop: int, entry: LogEntry, fault: Fault) -> AsyncIterator[bytes]:
    block_bytes = _BLOCK_BYTES if fault.bytes_per_s is None else max(1, min(_BLOCK_BYTES, int(fault.bytes_per_s / 20)))
    stall_at = fault.stall_after_bytes
    began = time.monotonic()
    with file.disk.open("rb") as stream:
        stream.seek(start)
        while (sent := entry.sent_bytes) < stop - start:
            if fault.cut_after_bytes is not None and sent >= fault.cut_after_bytes:
                raise ConnectionCutError
            if stall_at is not None and sent >= stall_at:
                stall_at = None
                await asyncio.sleep(fault.stall_s)
            marks = [mark - sent for mark in (fault.cut_after_bytes, stall_at) if mark is not None]
            block = stream.read(min(block_bytes, stop - start - sent, *marks))
            yield _corrupted(block, start + sent, fault.corrupt_at)
            entry.sent_bytes += len(block)
            if fault.bytes_per_s is not None:
                await asyncio.sleep(max(0.0, began + entry.sent_bytes / fault.bytes_per_s - time.monotonic()))


def _corrupted(block: bytes, offset: int, at: int | None) -> bytes:
    if at is None or not offset <= at < offset + len(block):
        return block
    changed = bytearray(block)
    changed[at - offset] ^= 0xFF
    return bytes(changed)
