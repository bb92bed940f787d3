"""The run: workload by workload, pair by pair, one target at a time while the others wait."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.exchange import Answer, Ask
from bench.judge import Sample
from bench.measures import fault, figures
from bench.targets import Target
from bench.watch import CpuWatch, pss_bytes
from bench.workloads import CHAT, NEW_TOKENS, OURS, PEER, Part, Workload

IDLE_CORES_ALLOWED = 0.05
"""More than this of a core is no idle server: its work would be counted against the other."""


@dataclass(slots=True)
class Results:
    """Everything a run found: judged samples, what is kept of each round, and what the user should know."""

    samples: list[Sample] = field(default_factory=list)
    rounds: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def warn(self, text: str) -> None:
        """Remember a warning once."""
        if text not in self.warnings:
            self.warnings.append(text)


class Runner:
    """Runs workloads over targets; ``tell`` hears of each round."""

    def __init__(self, targets: Mapping[str, Target], pairs: int, tell: Callable[[str], None]) -> None:
        self._targets = targets
        self._pairs = pairs
        self._tell = tell
        self.results = Results()

    def run(self, workload: Workload) -> None:
        """All pairs of a workload, A-B-A-B."""
        parts = [part for part in self._parts(workload) if part.target in self._targets]
        self._tell(f"{workload.key}: {workload.title}")
        for number in range(self._pairs):
            for part in parts:
                self._round(workload, part, number)

    def warm_up(self, target: Target) -> None:
        """One short request that nobody counts."""
        body = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8, "temperature": 0}
        if target.name in (OURS, PEER) or hasattr(target, "url"):
            answer = target.play([[Ask(CHAT, body)]]).answers[0]
            if answer.error:
                raise RuntimeError(f"{target.name} does not answer: {answer.error}")

    def measure_memory(self, moment: int) -> None:
        """What each target's processes hold now, as a sample of the workload "memory"."""
        for name, target in self._targets.items():
            held = pss_bytes(target.processes())
            if held is not None:
                self.results.samples.append(Sample("memory", name, moment, {"pss_bytes": float(held)}))

    def _parts(self, workload: Workload) -> Sequence[Part]:
        known = {part.target for part in workload.parts}
        built_in = {OURS, PEER, "llama-cpp-python", "bare loop"}
        others = [Part(name, name, {}) for name in self._targets if name not in known | built_in]
        return [*workload.parts, *others] if workload.open_to_others else workload.parts

    def _round(self, workload: Workload, part: Part, number: int) -> None:
        target = self._targets[part.target]
        clients = [
            [Ask(a.path, {**a.body, **part.fields}, a.not_before_s, a.after_chunks, a.continues) for a in asks]
            for asks in workload.clients(number, part.variant)
        ]
        idle = [process for other in self._targets.values() if other is not target for process in other.processes()]
        watch = CpuWatch(target.processes(), idle)
        played = target.play(clients)
        usage = watch.read(played.generator_cpu_s)
        found = figures(workload.key, played.answers)
        if workload.key == "g" and part.target == OURS and (promise_s := self._promise_s(len(clients))):
            found["ttft_p99_of_promise"] = found.get("ttft_p99_s", float("inf")) / promise_s
        self.results.samples.append(Sample(workload.key, part.label, number, found))
        faults = [wrong for answer in played.answers if (wrong := fault(workload.key, answer))]
        for wrong in faults[:1]:
            self.results.warn(f"{workload.key}, {part.label}: {len(faults)} of {len(played.answers)}: {wrong[:300]}")
        if usage.idle_cores > IDLE_CORES_ALLOWED:
            self.results.warn(f"idle servers used {usage.idle_cores:.2f} cores during {workload.key} of {part.label}")
        self.results.rounds.append(
            {
                "workload": workload.key,
                "label": part.label,
                "round": number,
                "figures": found,
                "faults": faults,
                "generator_cpu_s": played.generator_cpu_s,
                **asdict(usage),
                "answers": [_kept(answer, every_chunk=workload.key == "d") for answer in played.answers],
            }
        )
        self._tell(_line(workload, part, number, found, usage.foreign_cores))

    def _promise_s(self, requests: int) -> float | None:
        """How long so many requests may take in order at the rate of eight clients, measured in this run.

        Each is at most as much work as one of those, so a queue that keeps its order gives the last one its first
        token by then; None when that rate was not measured.
        """
        rates = [
            one.figures["tokens_s"]
            for one in self.results.samples
            if (one.workload, one.label) == ("a8", OURS) and "tokens_s" in one.figures
        ]
        return requests * NEW_TOKENS / min(rates) if rates else None


def _kept(answer: Answer, *, every_chunk: bool) -> dict[str, Any]:
    kept: dict[str, Any] = {
        name: getattr(answer, name)
        for name in ("client", "number", "sent_s", "first_s", "ended_s", "prompt_tokens", "completion_tokens")
    }
    kept |= {"cached_tokens": answer.cached_tokens, "decode_s": answer.decode_s, "error": answer.error}
    kept |= {"finish_reason": answer.finish_reason, "chunks": len(answer.chunk_s)}
    return kept | ({"chunk_s": answer.chunk_s} if every_chunk else {})


def _line(workload: Workload, part: Part, number: int, found: Mapping[str, float], foreign_cores: float) -> str:
    shown = {"tokens_s": "{:.1f} tokens/s", "worker_tokens_s": "worker {:.1f}", "ttft_p50_s": "TTFT {:.2f} s"}
    shown |= {"worst_gap_s": "worst gap {:.2f} s", "failures": "{:.0f} failed"}
    texts = [form.format(found[name]) for name, form in shown.items() if found.get(name)]
    noise = f"; others used {foreign_cores:.2f} cores" if foreign_cores > 0.1 else ""
    return f"{workload.key:3} {number + 1}. {part.label:28} {', '.join(texts)}{noise}"
