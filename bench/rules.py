"""What the figures are to show: floors that must hold, aims beyond them."""

from __future__ import annotations

from dataclasses import dataclass

from bench.workloads import BARE, EIGHT, ONE, OURS, PEER


@dataclass(frozen=True, slots=True)
class Rule:
    """``measure`` of ``subject`` in a workload, divided by ``against``'s (None: as it is).

    It holds at or above ``floor`` when ``at_least``, else at or below it; the same goes for the ``aim``.
    """

    workload: str
    measure: str
    subject: str
    against: str | None
    floor: float
    aim: float
    at_least: bool = True

    @property
    def title(self) -> str:
        """The rule's left side in words."""
        divided = f" ÷ {self.against}" if self.against else ""
        return f"{self.workload}: {_WORDS[self.measure]}{divided}"


_WORDS = {
    "tokens_s": "tokens/s",
    "worker_tokens_s": "tokens/s in the worker",
    "ttft_p50_s": "TTFT p50",
    "worst_gap_s": "worst gap of the running streams",
    "failures": "requests that failed",
    "ttft_p99_of_promise": "TTFT p99 ÷ the queue's promise",
    "chunks_s": "streamed chunks/s of the null engine",
    "tail_health_s": "99 % of /health/live meanwhile within, s",
    "pss_bytes": "memory (PSS)",
    "live_s": "daemon live after s",
    "help_s": "lilliput --help takes s",
    "freed_s": "sequence free after its client left, s",
    "stream_tokens_s": "tokens/s",
    "first_s": "first token of a cold model, s",
}
_SCHEMA_OFF, _ON, _OFF = f"{OURS} without schema", f"{OURS} speculating", f"{OURS} not speculating"

RULES = (
    Rule("a1", "tokens_s", OURS, PEER, 1.0, 1.1),
    Rule("w", "worker_tokens_s", OURS, BARE, 0.97, 0.99),
    Rule("a8", "tokens_s", OURS, PEER, 1.0, 1.08),
    Rule("a16", "tokens_s", OURS, PEER, 1.0, 1.08),
    Rule("a8", "ttft_p50_s", OURS, PEER, 0.65, 0.5, at_least=False),
    Rule("b", "ttft_p50_s", OURS, PEER, 0.65, 0.4, at_least=False),
    Rule("b", "tokens_s", OURS, PEER, 1.5, 1.8),
    Rule("c", "ttft_p50_s", OURS, PEER, 1.0, 0.8, at_least=False),
    Rule("d", "worst_gap_s", OURS, PEER, 0.2, 0.08, at_least=False),
    Rule("e", "tokens_s", OURS, PEER, 1.0, 1.1),
    Rule("e", "tokens_s", OURS, _SCHEMA_OFF, 0.7, 0.9),
    Rule("f", "tokens_s", _ON, _OFF, 1.25, 1.6),
    Rule("g", "failures", OURS, None, 0.0, 0.0, at_least=False),
    Rule("g", "ttft_p99_of_promise", OURS, None, 1.0, 1.0, at_least=False),
    Rule("null", "chunks_s", OURS, None, 50_000.0, 100_000.0),
    Rule("null", "tail_health_s", OURS, None, 0.02, 0.02, at_least=False),
    Rule("memory", "pss_bytes", OURS, PEER, 1.25, 1.1, at_least=False),
    Rule("start", "live_s", OURS, None, 2.0, 2.0, at_least=False),
    Rule("start", "help_s", OURS, None, 0.3, 0.3, at_least=False),
    Rule("start", "freed_s", OURS, None, 0.1, 0.1, at_least=False),
)

RATE_RULES = (
    Rule("one stream", "stream_tokens_s", ONE, BARE, 0.93, 0.93),
    Rule("eight streams", "tokens_s", EIGHT, ONE, 1.5, 1.5),
    Rule("cold", "first_s", ONE, None, 3.0, 3.0, at_least=False),
)
"""What ``bench.rates`` judges, for each file by itself."""
