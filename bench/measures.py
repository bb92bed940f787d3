"""From the answers of a round to its figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from math import ceil

from bench.exchange import Answer

Figures = dict[str, float]


def percentile(values: Sequence[float], percent: float) -> float:
    """The least value that so many percent do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, ceil(percent / 100 * len(ordered)) - 1)]


def figures(workload: str, answers: Sequence[Answer]) -> Figures:
    """Figures of a round by name; those that cannot be told are left out. Times in seconds.

    ``tokens_s`` counts all generated tokens from the first request to the end of the last. Times to first tokens are
    from sending to the first text. In c they are of second and later turns only; in d of the long prompt, and
    ``worst_gap_s`` is the longest time between two chunks of a running stream that ended after the long prompt came.
    """
    good = [answer for answer in answers if fault(workload, answer) is None]
    found: Figures = {"failures": float(len(answers) - len(good))}
    if not good:
        return found
    found["tokens_s"] = sum(one.tokens for one in good) / (
        max(one.ended_s for one in good) - min(one.sent_s for one in good)
    )
    firsts = [one.first_s for one in _judged_firsts(workload, good) if one.first_s is not None]
    if firsts:
        found |= {"ttft_p50_s": percentile(firsts, 50), "ttft_p99_s": percentile(firsts, 99)}
    timed = [(one.tokens - 1) / one.decode_s for one in good if one.decode_s and one.tokens > 1]
    if timed:
        found["worker_tokens_s"] = percentile(timed, 50)
    gaps = _gaps(good, workload)
    if gaps:
        found["worst_gap_s"] = max(gaps)
    cached = [one.cached_tokens for one in good if one.cached_tokens is not None]
    if cached:
        found["cached_tokens"] = float(sum(cached))
    return found


def fault(workload: str, answer: Answer) -> str | None:
    """What is wrong with an answer; None if it ended rightly."""
    if answer.error is not None:
        return answer.error
    if answer.finish_reason not in ("stop", "length"):
        return f"ended with finish_reason {answer.finish_reason!r}"
    if workload == "e" and answer.finish_reason == "stop" and not _is_json(answer.text):
        return "is no JSON"
    return None if answer.tokens else "said nothing"


def _judged_firsts(workload: str, answers: Sequence[Answer]) -> list[Answer]:
    if workload == "c":
        return [answer for answer in answers if answer.number > 0]
    if workload == "d":
        return [max(answers, key=lambda answer: answer.client)]
    return list(answers)


def _gaps(answers: Sequence[Answer], workload: str) -> list[float]:
    since = 0.0
    if workload == "d":
        long = max(answers, key=lambda answer: answer.client)
        answers, since = [one for one in answers if one is not long], long.sent_s
    return [later - earlier for answer in answers for earlier, later in pairwise(answer.chunk_s) if later > since]


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
