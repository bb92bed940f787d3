from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import combinations

import pytest
from bench.exchange import Ask
from bench.workloads import workloads
from tests.support.model import smollm2_path

from bench import prompts
from lilliput.chat import ChatTemplate
from lilliput.llama import ModelSettings
from lilliput.llama.library import start_library
from lilliput.llama.model import Model

Tokenize = Callable[[Ask], list[int]]
PLANS = {workload.key: workload.clients for workload in workloads()}


@pytest.fixture(scope="module")
def tokenize() -> Iterator[Tokenize]:
    start_library()
    with Model(ModelSettings(str(smollm2_path()), rung="no-extra-buffers")) as model:
        template = ChatTemplate.from_text(model.chat_template(), "<|im_start|>", "<|im_end|>")

        def tokens_of(ask: Ask) -> list[int]:
            text = ask.body["prompt"] if "prompt" in ask.body else template.render(ask.body["messages"])
            return list(model.tokenize(text, add_special=False, parse_special=True))

        yield tokens_of


@pytest.mark.parametrize(("key", "low", "high"), [("a8", 130, 150), ("g", 130, 150), ("w", 130, 150)])
def test_chat_prompts_have_some_140_tokens(tokenize: Tokenize, key: str, low: int, high: int) -> None:
    counts = [len(tokenize(ask)) for asks in PLANS[key](3, 0) for ask in asks]
    assert low <= min(counts)
    assert max(counts) <= high


def test_the_long_prompt_has_some_3000_tokens_and_the_pool_has_room_for_all(tokenize: Tokenize) -> None:
    asks = [asks[0] for asks in PLANS["d"](0, 0)]
    *streams, long = [len(tokenize(ask)) for ask in asks]
    assert 2900 <= long <= 3150
    assert sum([*streams, long]) + sum(ask.body["max_tokens"] for ask in asks) < 8192


def test_shared_prefixes_are_some_600_tokens_of_one_round_and_no_other(tokenize: Tokenize) -> None:
    first = [tokenize(ask) for asks in PLANS["b"](0, 0) for ask in asks]
    other = [tokenize(ask) for asks in PLANS["b"](1, 0) for ask in asks]
    assert len(first) == 8
    assert all(580 <= _common(one, two) <= 640 for one, two in combinations(first, 2))
    assert all(_common(one, two) < 60 for one in first for two in other)


@pytest.mark.parametrize("key", ["a1", "a8", "a16", "d", "g", "w"])
def test_no_prompt_has_more_than_the_template_in_common_with_another(tokenize: Tokenize, key: str) -> None:
    rounds = [PLANS[key](number, 0) for number in range(2)]
    prompts_of = [tokenize(ask) for clients in rounds for asks in clients for ask in asks]
    assert max(_common(one, two) for one, two in combinations(prompts_of, 2)) <= 45


@pytest.mark.parametrize("key", ["e", "f"])
def test_contestants_on_the_same_server_share_no_more_than_the_template(tokenize: Tokenize, key: str) -> None:
    one, other = ([tokenize(asks[0]) for asks in PLANS[key](0, variant)] for variant in (0, 1))
    assert max(_common(a, b) for a in one for b in other) <= 45


def test_the_texts_to_edit_are_about_as_long_as_the_answers(tokenize: Tokenize) -> None:
    for number in range(5):
        ((ask,),) = PLANS["f"](number, 0)
        assert 85 <= len(tokenize(ask)) - 55 <= 115


def test_turns_fit_the_pool_with_all_that_was_said_before(tokenize: Tokenize) -> None:
    users = PLANS["c"](0, 0)
    assert [len(asks) for asks in users] == [6] * 4
    assert sum(len(tokenize(ask)) + ask.body["max_tokens"] for asks in users for ask in asks) < 8192


def test_a_story_is_the_same_in_every_run_and_another_for_other_numbers() -> None:
    assert prompts.story(50, 1, 2) == prompts.story(50, 1, 2)
    assert prompts.story(50, 1, 2) != prompts.story(50, 2, 1)


def _common(one: list[int], two: list[int]) -> int:
    return next((at for at, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))
