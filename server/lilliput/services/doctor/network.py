"""What to think of the Hub: whether it answers, whether it takes the token, whether the clocks agree."""

from __future__ import annotations

from lilliput.hub import HubAnswer
from lilliput.services.doctor.finding import Evidence, Opinion
from lilliput.units import format_duration

SKEW_S, LARGE_SKEW_S = 60.0, 86_400.0
"""Clocks that differ by a minute make logs hard to read; by a day, certificates and signed links fail."""


def judge_hub(answer: HubAnswer) -> Opinion:
    """Whether models can be pulled."""
    evidence: Evidence = {"endpoint": answer.endpoint, "status": answer.status, "took_s": round(answer.took_s, 3)}
    if answer.offline:
        summary = f"{answer.endpoint} is not asked: offline mode is on"
        return Opinion("ok", summary, evidence, "to pull models, unset HF_HUB_OFFLINE")
    if answer.status is None:
        return Opinion(
            "warning",
            answer.problem or f"{answer.endpoint} does not answer",
            evidence,
            "check the network, HTTPS_PROXY and HF_ENDPOINT; what is installed runs without the Hub",
        )
    if answer.status >= 500:
        return Opinion("warning", f"{answer.endpoint} answers with status {answer.status}", evidence, "try again later")
    return Opinion("ok", f"{answer.endpoint} answers in {format_duration(answer.took_s)}", evidence)


def judge_token(answer: HubAnswer) -> Opinion:
    """Whether private and gated models can be pulled."""
    evidence: Evidence = {"set": answer.has_token, "status": answer.status}
    if not answer.has_token:
        summary = "none is set: public models can be pulled, private and gated ones cannot"
        return Opinion("ok", summary, evidence, "to have those, set HF_TOKEN or log in: `hf auth login`")
    if answer.status == 200:
        return Opinion("ok", "the Hub takes the token", evidence)
    if answer.status in (401, 403):
        return Opinion(
            "problem", "the Hub refuses the token", evidence, "make a new one, then set HF_TOKEN or `hf auth login`"
        )
    return Opinion("unknown", "one is set; whether it is valid only the Hub could tell", evidence)


def judge_clock(answer: HubAnswer, newest: tuple[str, float] | None, now: float) -> Opinion:
    """Whether the clock is right: against the Hub's, and against the ``newest`` file (its path and its time)."""
    ahead_s = None if newest is None else newest[1] - now
    evidence: Evidence = {
        "skew_s": None if answer.skew_s is None else round(answer.skew_s, 1),
        "newest_file": None if newest is None else newest[0],
        "newest_file_ahead_s": None if ahead_s is None else round(ahead_s, 1),
    }
    remedy = "set the clock, by the network: `timedatectl set-ntp true`"
    if answer.skew_s is not None and abs(answer.skew_s) > SKEW_S:
        how = "ahead of" if answer.skew_s > 0 else "behind"
        summary = f"this clock is {format_duration(abs(answer.skew_s))} {how} the Hub's"
        return Opinion("problem" if abs(answer.skew_s) > LARGE_SKEW_S else "warning", summary, evidence, remedy)
    if newest is not None and ahead_s is not None and ahead_s > SKEW_S:
        summary = f"{newest[0]} is from the future: {format_duration(ahead_s)} ahead of this clock"
        return Opinion("warning", summary, evidence, remedy)
    if answer.skew_s is not None:
        return Opinion("ok", f"agrees with the Hub's within {max(1.0, abs(answer.skew_s)):.0f} s", evidence)
    if newest is not None:
        return Opinion("ok", "no file is from the future; the Hub told no time", evidence)
    return Opinion("unknown", "neither the Hub nor a file tells the time", evidence)
