"""``python -m bench``: everything in one run; exits with 1 when a floor is missed."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.judge import judge_all, missed
from bench.machine import describe
from bench.null import measure_null
from bench.peers.llama_server import BuildFailed
from bench.report import document, print_figures, print_verdicts, write
from bench.rules import RULES
from bench.run import Results, Runner
from bench.session import CONTEXT_TOKENS, SLOTS, Session, Wanted
from bench.start import measure_start
from bench.workloads import BARE, OURS, PEER, PYTHON, Workload, workloads
from lilliput.hardware import read_cpu

OUTPUT = Path(__file__).parents[1] / "build" / "bench"


def main() -> int:
    """Run what the arguments ask for; 0 when every floor that was measured holds, 2 when nothing could be measured."""
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    console = Console() if sys.stdout.isatty() else Console(width=140)
    chosen = _chosen(options.only, quick=options.quick)
    began = time.monotonic()

    def tell(text: str) -> None:
        console.print(f"[dim]{(time.monotonic() - began) / 60:5.1f} min[/] {text}", highlight=False, soft_wrap=True)

    with tempfile.TemporaryDirectory(prefix="lilliput-bench-") as directory, ExitStack() as stack:
        about: dict[str, Any] = describe() | {"arguments": sys.argv[1:], "context_tokens": CONTEXT_TOKENS}
        about |= {"slots": SLOTS, "threads": options.threads, "pairs": options.pairs}
        try:
            results = _collect(options, chosen, Session(_wanted(options, chosen), Path(directory), stack, tell), about)
        except BuildFailed as error:
            console.print(f"[red]error:[/] {error}", soft_wrap=True)
            return 2
    verdicts = judge_all([rule for rule in RULES if _asked(rule.workload, options.only)], results.samples)
    print_figures(console, chosen, results.samples)
    print_verdicts(console, verdicts)
    for warning in results.warnings:
        console.print(f"[yellow]warning:[/] {warning}", soft_wrap=True)
    written = write(
        options.output, document(about, results, verdicts, chosen), verdicts, "lilliput beside llama-server"
    )
    console.print(f"{' and '.join(map(str, written))}, after {(time.monotonic() - began) / 60:.0f} min", soft_wrap=True)
    return 1 if missed(verdicts) else 0


def _collect(options: argparse.Namespace, chosen: list[Workload], session: Session, about: dict[str, Any]) -> Results:
    """First what needs the machine for itself, then everything that shares it in turn."""
    alone = []
    if _asked("start", options.only):
        alone += measure_start(session.directory, session.tell)
    if _asked("null", options.only):
        alone += measure_null(session.directory, options.pairs, session.tell, quick=options.quick)
    only_alone = options.only and set(options.only) <= {"start", "null"}
    results = Results() if only_alone else _measure(session, chosen, options.pairs, about)
    results.samples += alone
    return results


def _measure(session: Session, chosen: list[Workload], pairs: int, about: dict[str, Any]) -> Results:
    targets = session.start()
    about["targets"] = {name: dict(target.settings) for name, target in targets.items()}
    runner = Runner(targets, pairs, session.tell)
    for target in targets.values():
        runner.warm_up(target)
    if OURS in targets:
        about["engine"] = session.engine()
        runner.measure_memory(0)
        if any(workload.key == "w" for workload in chosen):
            bare = session.bare_loop()
            targets[BARE] = bare
            about["targets"][BARE] = dict(bare.settings)
    for workload in chosen:
        runner.run(workload)
    runner.measure_memory(1)
    return runner.results


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description="This server beside llama-server and the bare loop.")
    parser.add_argument("--pairs", type=int, default=5, help="rounds of each contestant (default 5)")
    parser.add_argument("--only", type=_names, default=(), help="workloads by name, such as a1,a8,b,start")
    parser.add_argument("--quick", action="store_true", help="short answers, few repetitions: to see that it runs")
    parser.add_argument("--threads", type=int, default=read_cpu().compute_threads, help="of every server")
    parser.add_argument("--url", action="append", default=[], help="NAME=URL[#MODEL]: another server, measured beside")
    parser.add_argument("--without-peers", action="store_true", help="build and start no llama-server")
    parser.add_argument("--serve-args", default="", help="more arguments for lilliput serve")
    parser.add_argument("--llama-server-args", default="", help="more arguments for llama-server")
    parser.add_argument("--output", type=Path, default=OUTPUT, help="folder of results.json and results.svg")
    return parser


def _names(text: str) -> tuple[str, ...]:
    known = {workload.key for workload in workloads()} | {"start", "memory", "null"}
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in known]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not among {', '.join(sorted(known))}")
    return names


def _wanted(options: argparse.Namespace, chosen: list[Workload]) -> Wanted:
    names = {OURS} | {part.target for workload in chosen for part in workload.parts} - {BARE}
    if not options.only or "memory" in options.only:
        names |= {PEER}
    if options.without_peers:
        names -= {PEER, PYTHON}
    urls = tuple((name, url) for name, _, url in (text.partition("=") for text in options.url))
    return Wanted(
        frozenset(names),
        urls,
        options.threads,
        tuple(options.serve_args.split()),
        tuple(options.llama_server_args.split()),
    )


def _chosen(only: tuple[str, ...], *, quick: bool) -> list[Workload]:
    return [workload for workload in workloads(quick=quick) if _asked(workload.key, only)]


def _asked(name: str, only: tuple[str, ...]) -> bool:
    return not only or name in only


if __name__ == "__main__":
    sys.exit(main())
