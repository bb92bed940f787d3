"""A lean streaming client: what it costs must not be counted against the server."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class StreamTimes:
    """One streamed completion: tokens as the server counted them, times in seconds since the request was sent."""

    tokens: int
    first_s: float
    last_s: float

    @property
    def decode_s(self) -> float:
        """From the first token to the last."""
        return self.last_s - self.first_s


async def stream_completion(port: int, body: Mapping[str, Any]) -> StreamTimes:
    """POST ``body`` to /v1/completions and read the stream to its end; RuntimeError when it is no proper stream."""
    content = json.dumps({**body, "stream": True, "stream_options": {"include_usage": True}}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    head = f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    began = time.perf_counter()
    writer.write(f"{head}Content-Length: {len(content)}\r\nConnection: close\r\n\r\n".encode() + content)
    first = last = 0.0
    usage: dict[str, int] | None = None
    seen = b""
    while line := await reader.readline():
        seen = line if line.startswith(b"data: ") else seen
        if line.startswith(b'data: {"id"'):
            if b'"text":""' not in line and b'"choices":[]' not in line:
                last = time.perf_counter()
                first = first or last
            if b'"usage":{' in line:
                usage = json.loads(line[6:])["usage"]
    writer.close()
    if seen.strip() != b"data: [DONE]" or usage is None:
        raise RuntimeError(f"the stream did not end properly: {seen!r}")
    return StreamTimes(usage["completion_tokens"], first - began, last - began)
