"""Samplers, grammars and biases over HTTP, with a real daemon and a real model."""

from __future__ import annotations

from typing import Any

import openai as sdk
import pytest
from openai import OpenAI
from tests.functional.conftest import MODEL

pytestmark = pytest.mark.functional

PROMPT = "The colour of the sky is"


def complete(openai: OpenAI, max_tokens: int = 6, temperature: float = 0, **extra: Any) -> str:
    answer = openai.completions.create(
        model=MODEL, prompt=PROMPT, max_tokens=max_tokens, temperature=temperature, extra_body=extra
    )
    return answer.choices[0].text


def test_a_grammar_holds_and_a_faulty_one_names_its_line(openai: OpenAI) -> None:
    assert complete(openai, 20, grammar='root ::= "red-" [0-9]{2} "."').startswith("red-")
    with pytest.raises(sdk.BadRequestError, match="line 2"):
        complete(openai, grammar='root ::= a\na ::= "x')
    assert complete(openai)


def test_samplers_and_biases_reach_the_draw(openai: OpenAI) -> None:
    greedy = complete(openai)
    assert complete(openai, temperature=2, samplers="k", top_k=1, seed=3) == greedy
    assert complete(openai, temperature=2, top_n_sigma=0.001, top_k=0, top_p=1, min_p=0) == greedy
    assert complete(openai, 2, logit_bias={" dog": 100}) == " dog dog"
    with pytest.raises(sdk.BadRequestError, match="logit_bias") as refused:
        complete(openai, logit_bias={"several words": 1})
    assert refused.value.param == "logit_bias"
