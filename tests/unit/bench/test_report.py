from __future__ import annotations

import io
import json
from pathlib import Path
from xml.etree import ElementTree

from bench.chart import draw
from bench.judge import Sample, judge_all, missed
from bench.report import document, print_figures, print_verdicts, write
from bench.rules import RATE_RULES, RULES
from bench.run import Results
from bench.workloads import BARE, ONE, OURS, PEER, workloads
from rich.console import Console

SAMPLES = [
    Sample("a1", OURS, 0, {"tokens_s": 50.0, "failures": 0.0}),
    Sample("a1", PEER, 0, {"tokens_s": 40.0, "failures": 0.0}),
    Sample("b", OURS, 0, {"tokens_s": 40.0, "ttft_p50_s": 4000.0}),
    Sample("b", PEER, 0, {"tokens_s": 40.0, "ttft_p50_s": 1.0}),
]


def test_the_chart_is_well_formed_and_has_a_bar_for_each_measured_rule() -> None:
    root = ElementTree.fromstring(draw(judge_all(RULES, SAMPLES), "ours < theirs & more"))
    bars = [node for node in root.iter("{http://www.w3.org/2000/svg}rect") if "x" in node.attrib]
    assert len(bars) == 3
    assert all(330 <= float(bar.attrib["x"]) + float(bar.attrib["width"]) <= 330 + 420 for bar in bars)


def test_tables_say_by_how_much_a_floor_is_missed() -> None:
    out = io.StringIO()
    console = Console(file=out, width=200)
    print_figures(console, workloads(), SAMPLES)
    print_verdicts(console, judge_all(RULES, SAMPLES))
    assert "MISS by 0.50" in out.getvalue()
    assert "a1: tokens/s ÷ llama-server" in out.getvalue()
    assert "1.25" in out.getvalue()


def test_results_are_written_with_every_sample(tmp_path: Path) -> None:
    results = Results(samples=SAMPLES, rounds=[{"workload": "a1"}])
    verdicts = judge_all(RULES, SAMPLES)
    path, _ = write(tmp_path / "new", document({"machine": "m"}, results, verdicts, workloads()), verdicts, "title")
    told = json.loads(path.read_text())
    assert len(told["samples"]) == 4
    assert told["verdicts"][0]["value"]["median"] == 1.25
    assert told["rounds"] == [{"workload": "a1"}]


def test_verdicts_say_pass_or_miss_and_whether_an_aim_was_reached() -> None:
    out = io.StringIO()
    samples = [
        Sample("start", OURS, 0, {"live_s": 1.5, "freed_s": 0.125}),
        Sample("null", OURS, 0, {"chunks_s": 60_000.0}),
        Sample("one stream", ONE, 0, {"stream_tokens_s": 92.0}),
        Sample("one stream", BARE, 0, {"stream_tokens_s": 100.0}),
    ]
    print_verdicts(Console(file=out, width=200), judge_all((*RULES, *RATE_RULES), samples))
    lines = {
        line.split("│")[1].strip(): line.split("│")[-2].strip() for line in out.getvalue().splitlines() if "│" in line
    }
    assert lines["start: daemon live after s"] == "PASS"
    assert lines["start: sequence free after its client left, s"] == "MISS by 0.025"
    assert lines["null: streamed chunks/s of the null engine"] == "PASS"
    assert lines["one stream: tokens/s ÷ bare loop"] == "MISS by 0.010"
    assert lines["start: lilliput --help takes s"] == "not measured"


def test_a_missed_floor_is_found_and_what_was_not_measured_is_none() -> None:
    assert missed(judge_all(RULES, SAMPLES))
    assert not missed(judge_all(RULES, SAMPLES[:2]))
