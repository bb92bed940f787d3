"""What ``lilliput engines`` shows: one row an engine."""

from __future__ import annotations

from collections.abc import Iterable

from rich.table import Table

from lilliput_client.cli import formats
from lilliput_client.cli.output import table
from lilliput_client.values import Engine

_NOW = ("MODEL", "STATE", "RUN/WAIT", "PROMPT/S", "TOKENS/S", "PASSES/S", "BATCH", "KV")
_SINCE_THE_LOAD = ("CACHED", "SENT BACK", "DRAFTS")
_HEADERS = (*_NOW, *_SINCE_THE_LOAD)


def engines_table(engines: Iterable[Engine]) -> Table:
    """Rates of the last seconds; then tokens from the cache, sequences sent back and accepted drafts of all time."""
    return table(_HEADERS, [_row(engine) for engine in engines], right=range(2, len(_HEADERS)))


def _row(engine: Engine) -> tuple[str, ...]:
    busy = f"{engine.active}/{engine.waiting}"
    stats = engine.stats
    if stats is None:
        return (engine.model, engine.state, busy, *[formats.UNKNOWN] * (len(_HEADERS) - 3))
    totals = stats.totals
    drafts = totals.accepted_tokens / totals.drafted_tokens if totals.drafted_tokens else None
    batch = stats.mean_batch_tokens
    return (
        engine.model,
        engine.state,
        busy,
        f"{stats.prefill_tokens_s:.0f}",
        f"{stats.decode_tokens_s:.1f}",
        f"{stats.steps_s:.1f}",
        formats.UNKNOWN if batch is None else f"{batch:.1f}",
        f"{stats.kv_cells_used / stats.kv_cells:.0%}" if stats.kv_cells else formats.UNKNOWN,
        formats.quantity(totals.cached_tokens),
        str(totals.preemptions),
        formats.UNKNOWN if drafts is None else f"{drafts:.0%}",
    )
