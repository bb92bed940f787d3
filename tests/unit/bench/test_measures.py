from __future__ import annotations

import pytest
from bench.exchange import Answer
from bench.measures import fault, figures, percentile


def _answer(client: int, number: int, sent: float, chunks: list[float], tokens: int = 10, **more: object) -> Answer:
    answer = Answer(client, number, sent, chunks[-1] if chunks else sent, chunks, completion_tokens=tokens)
    answer.finish_reason = "length"
    for name, value in more.items():
        setattr(answer, name, value)
    return answer


def test_the_rate_is_of_all_tokens_over_the_whole_round() -> None:
    found = figures("a8", [_answer(0, 0, 1.0, [2.0, 3.0]), _answer(1, 0, 1.5, [3.0, 6.0], tokens=20)])
    assert found["tokens_s"] == pytest.approx(30 / 5.0)
    assert (found["ttft_p50_s"], found["ttft_p99_s"], found["failures"]) == (1.0, 1.5, 0)


def test_first_turns_do_not_count_where_later_ones_are_promised() -> None:
    found = figures("c", [_answer(0, 0, 0.0, [9.0]), _answer(0, 1, 10.0, [10.5])])
    assert found["ttft_p50_s"] == pytest.approx(0.5)


def test_the_worst_gap_is_of_the_streams_after_the_long_prompt_came() -> None:
    stream = _answer(0, 0, 0.0, [1.0, 4.0, 5.0, 6.5, 7.0])
    long = _answer(1, 0, 4.5, [20.0, 40.0])
    found = figures("d", [stream, long])
    assert found["worst_gap_s"] == pytest.approx(1.5)
    assert found["ttft_p50_s"] == pytest.approx(15.5)


def test_the_rate_in_the_worker_leaves_the_first_token_out() -> None:
    assert figures("w", [_answer(0, 0, 0.0, [1.0], tokens=11, decode_s=2.0)])["worker_tokens_s"] == 5.0


def test_failed_requests_are_counted_and_nothing_else_of_them() -> None:
    found = figures("g", [_answer(0, 0, 0.0, [1.0]), _answer(1, 0, 0.0, [90.0], error="reset")])
    assert (found["failures"], found["tokens_s"]) == (1, 10.0)
    assert figures("g", [_answer(0, 0, 0.0, [], error="reset")]) == {"failures": 1.0}


@pytest.mark.parametrize(
    ("workload", "more", "wrong"),
    [
        ("a1", {}, None),
        ("a1", {"finish_reason": None}, "ended with finish_reason None"),
        ("a1", {"completion_tokens": 0}, "said nothing"),
        ("e", {"finish_reason": "stop", "text": '{"people": []}'}, None),
        ("e", {"finish_reason": "stop", "text": "people"}, "is no JSON"),
        ("e", {"finish_reason": "length", "text": '{"people'}, None),
    ],
)
def test_what_is_wrong_with_an_answer(workload: str, more: dict[str, object], wrong: str | None) -> None:
    assert fault(workload, _answer(0, 0, 0.0, [1.0], **more)) == wrong  # type: ignore[arg-type]


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, percent) for percent in (50, 99, 100)] == [50.0, 99.0, 100.0]
    assert percentile([3.0], 99) == 3.0
