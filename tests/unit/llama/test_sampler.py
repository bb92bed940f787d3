"""Every sampler has an effect that can be seen, on real logits of the real model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from lilliput.llama import ContextSettings, SamplerSettings
from lilliput.llama import sampler as sampler_module
from lilliput.llama.batch import Batch
from lilliput.llama.candidates import likeliest
from lilliput.llama.context import Context
from lilliput.llama.grammar import Grammar, gbnf_of_schema
from lilliput.llama.model import Model
from lilliput.llama.sampler import Sampler
from lilliput.llama.sampler_parts import BANNED, deciding_candidates

PROMPT = "Once upon a time there was a"
OPEN = SamplerSettings(temperature=1.5, top_k=0, top_p=1, min_p=0, seed=7)
"""Draws from the whole vocabulary."""
GREEDY = SamplerSettings(temperature=0)
LAST = 6
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def context(model: Model) -> Iterator[Context]:
    """A context that has just decoded the prompt, with logits after every token of it."""
    tokens = model.tokenize(PROMPT, add_special=False, parse_special=False)
    assert len(tokens) == LAST + 1
    with Context(model, ContextSettings(256, 1, threads=2)) as made:
        batch = Batch(16)
        for position, token in enumerate(tokens):
            batch.add([token], position, 0, output_last=True)
        made.decode(batch)
        yield made


@pytest.fixture(scope="module")
def probabilities(context: Context) -> npt.NDArray[np.float64]:
    logits = context.logits(LAST).astype(np.float64)
    weights = np.exp(logits - logits.max())
    return np.asarray(weights / weights.sum())


def draw(model: Model, context: Context, settings: SamplerSettings, count: int = 60, gbnf: str = "") -> list[int]:
    """``count`` draws after the prompt by samplers of successive seeds."""
    drawn = []
    for number in range(count):
        grammar = Grammar(model, gbnf) if gbnf else None
        with Sampler(model, replace(settings, seed=settings.seed + number), grammar) as sampler:
            drawn.append(sampler.sample(context, LAST))
    return drawn


def ranks(probabilities: npt.NDArray[np.float64], tokens: list[int]) -> list[int]:
    return [int((probabilities > probabilities[token]).sum()) for token in tokens]


def token_of(model: Model, text: str) -> int:
    (token,) = model.tokenize(text, add_special=False, parse_special=False)
    return token


def test_an_open_draw_reaches_far_down(model: Model, context: Context, probabilities: npt.NDArray[np.float64]) -> None:
    assert max(ranks(probabilities, draw(model, context, OPEN))) > 500


@pytest.mark.parametrize(
    "settings",
    [
        GREEDY,
        replace(OPEN, top_k=40),
        SamplerSettings(seed=3),
        replace(OPEN, top_k=200, adaptive_target=0.3),
        replace(OPEN, top_k=20, xtc_probability=0.5, xtc_threshold=0.05),
    ],
)
def test_draws_from_the_likeliest_tokens_are_those_from_the_vocabulary(
    model: Model, context: Context, monkeypatch: pytest.MonkeyPatch, settings: SamplerSettings
) -> None:
    monkeypatch.setattr(sampler_module, "_head_tokens", lambda _deciding, _size: None)
    by_library = draw(model, context, settings)
    monkeypatch.setattr(sampler_module, "_head_tokens", lambda deciding, _size: deciding)
    assert deciding_candidates(settings) is not None
    assert draw(model, context, settings) == by_library


@pytest.mark.parametrize("size", [512, 49_152, 262_145])
@pytest.mark.parametrize("count", [1, 40, 256, 600])
def test_the_likeliest_are_those_with_the_greatest_logits(size: int, count: int) -> None:
    logits = np.random.default_rng(size + count).normal(size=size).astype(np.float32)
    logits[size // 2 :] -= 20  # what is likely lies close together
    found = likeliest(logits, count)
    assert found.dtype == np.int32
    assert sorted(found) == sorted(np.argsort(logits)[-count:])


def test_the_likeliest_are_found_among_impossible_ones() -> None:
    logits = np.full(262_144, -np.inf, np.float32)
    logits[[5, 77_000]] = [1.0, 2.0]
    assert {5, 77_000} <= set(likeliest(logits, 40).tolist())
    assert len(likeliest(logits, 40)) == 40


def test_top_k_draws_from_the_k_likeliest(
    model: Model, context: Context, probabilities: npt.NDArray[np.float64]
) -> None:
    drawn = ranks(probabilities, draw(model, context, replace(OPEN, top_k=3)))
    assert set(drawn) == {0, 1, 2}


def test_top_p_min_p_and_their_min_keep(model: Model, context: Context, probabilities: npt.NDArray[np.float64]) -> None:
    assert set(ranks(probabilities, draw(model, context, replace(OPEN, top_p=0.01)))) == {0}
    kept = probabilities >= 0.2 * probabilities.max()
    drawn = draw(model, context, replace(OPEN, min_p=0.2))
    assert all(kept[token] for token in drawn)
    assert len(set(drawn)) > 1
    assert set(ranks(probabilities, draw(model, context, replace(OPEN, min_p=0.99, min_keep=2)))) == {0, 1}


def test_top_n_sigma_of_nearly_nothing_is_greedy(
    model: Model, context: Context, probabilities: npt.NDArray[np.float64]
) -> None:
    assert set(ranks(probabilities, draw(model, context, replace(OPEN, top_n_sigma=0.001)))) == {0}
    logits = context.logits(LAST)
    drawn = draw(model, context, replace(OPEN, top_n_sigma=1))
    assert all(logits[token] >= logits.max() - 1.01 * logits.std() for token in drawn)
    assert len(set(drawn)) > 1


def test_typical_p_prefers_the_expected_surprise(
    model: Model, context: Context, probabilities: npt.NDArray[np.float64]
) -> None:
    entropy = -float((probabilities * np.log(probabilities)).sum())
    distance = np.abs(-np.log(probabilities) - entropy)
    order = np.argsort(distance)
    kept = set(order[: int(np.searchsorted(np.cumsum(probabilities[order]), 0.2)) + 2].tolist())
    drawn = draw(model, context, replace(OPEN, typical_p=0.2))
    assert set(drawn) <= kept
    assert len(set(drawn)) > 1
    assert int(probabilities.argmax()) not in drawn


def test_typical_p_bears_banned_tokens(model: Model, context: Context) -> None:
    banned = replace(OPEN, typical_p=0.2, logit_bias=((5, BANNED), *((token, BANNED) for token in model.end_tokens)))
    assert draw(model, context, banned) == draw(model, context, replace(OPEN, typical_p=0.2))


def test_xtc_excludes_the_top_choices(model: Model, context: Context, probabilities: npt.NDArray[np.float64]) -> None:
    top = np.sort(probabilities)[::-1]
    threshold = float(top[2])
    settings = replace(OPEN, temperature=0.5, xtc_threshold=threshold * 0.999)
    assert {0, 1} & set(ranks(probabilities, draw(model, context, settings)))
    drawn = ranks(probabilities, draw(model, context, replace(settings, xtc_probability=1)))
    assert min(drawn) == 2
    greedy = replace(settings, temperature=0, xtc_probability=1)
    assert ranks(probabilities, draw(model, context, greedy, 1)) == [2]


def test_dynamic_temperature_differs_from_a_plain_one_and_range_zero_does_not(model: Model, context: Context) -> None:
    plain = draw(model, context, OPEN)
    assert draw(model, context, replace(OPEN, dynatemp_range=0, dynatemp_exponent=3)) == plain
    assert draw(model, context, replace(OPEN, dynatemp_range=1.4, dynatemp_exponent=4)) != plain


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_reproduces_by_seed_and_keeps_to_its_surprise(
    model: Model, context: Context, probabilities: npt.NDArray[np.float64], version: int
) -> None:
    settings = replace(OPEN, temperature=1, mirostat=version, mirostat_tau=1.0, mirostat_eta=0.2)

    def run(seed: int, tau: float = 1.0) -> list[int]:
        with Sampler(model, replace(settings, seed=seed, mirostat_tau=tau)) as sampler:
            return [sampler.sample(context, LAST) for _ in range(80)]

    assert run(3) == run(3) != run(4)
    low, high = (np.mean(ranks(probabilities, run(3, tau))) for tau in (0.5, 8.0))
    assert low < high


def test_adaptive_p_draws_near_its_target(
    model: Model, context: Context, probabilities: npt.NDArray[np.float64]
) -> None:
    def mean(target: float) -> float:
        settings = replace(OPEN, temperature=1, min_p=0.01, adaptive_target=target)
        return float(np.mean([probabilities[token] for token in draw(model, context, settings)]))

    assert mean(0.0) < mean(1.0)
    unnamed = replace(OPEN, adaptive_target=0.5, samplers=("temperature",))
    assert draw(model, context, unnamed) == draw(model, context, OPEN)


def test_penalties_and_dry_stop_a_repetition(model: Model, context: Context) -> None:
    phrase = model.tokenize(" the big red dog ran", add_special=False, parse_special=False)
    favoured = replace(GREEDY, logit_bias=((phrase[3], 100.0),))
    for settings in (
        replace(favoured, frequency_penalty=60, repeat_last_n=64),
        replace(favoured, presence_penalty=100),
        replace(favoured, repeat_penalty=10),
        replace(favoured, dry_multiplier=100),
    ):
        with Sampler(model, settings) as sampler:
            assert sampler.sample(context, LAST) == phrase[3]
        with Sampler(model, settings) as sampler:
            sampler.accept_prompt(phrase * 3 + phrase[:3])
            assert sampler.sample(context, LAST) != phrase[3]


def test_dry_heeds_its_window_its_length_and_its_breakers(model: Model, context: Context) -> None:
    phrase = model.tokenize(" the big red dog ran", add_special=False, parse_special=False)
    dry = replace(GREEDY, logit_bias=((phrase[3], 100.0),), dry_multiplier=100)
    for settings in (
        replace(dry, dry_penalty_last_n=0),
        replace(dry, dry_penalty_last_n=5),
        replace(dry, dry_allowed_length=30),
        replace(dry, dry_sequence_breakers=(" red",)),
        replace(dry, samplers=("temperature",)),
    ):
        with Sampler(model, settings) as sampler:
            sampler.accept_prompt(phrase * 3 + phrase[:3])
            assert sampler.sample(context, LAST) == phrase[3]


def test_the_order_matters(model: Model, context: Context, probabilities: npt.NDArray[np.float64]) -> None:
    hot = replace(OPEN, temperature=2, min_p=0.3)
    first = draw(model, context, replace(hot, samplers=("min_p", "temperature")), 150)
    last = draw(model, context, replace(hot, samplers=("temperature", "min_p")), 150)
    assert max(ranks(probabilities, first)) < max(ranks(probabilities, last))
    none = draw(model, context, replace(OPEN, temperature=0, top_k=1, samplers=()))
    assert len(set(none)) > 5


def test_the_default_order_is_what_naming_it_gives(model: Model, context: Context) -> None:
    default = SamplerSettings(temperature=1.2)
    named = replace(default, samplers=("top_k", "top_p", "min_p", "temperature"))
    assert draw(model, context, default) == draw(model, context, named)


def test_the_seed_that_the_library_takes_for_none_reproduces(model: Model, context: Context) -> None:
    seeded = replace(OPEN, seed=2**32 - 1)
    assert draw(model, context, seeded, 1) == draw(model, context, seeded, 1)


def test_min_tokens_bans_the_end_and_then_costs_nothing(model: Model, context: Context) -> None:
    end = model.end_tokens[0]
    wanted = replace(GREEDY, logit_bias=((end, 100.0),))
    with Sampler(model, wanted, min_tokens=3) as sampler:
        drawn = [sampler.sample(context, LAST) for _ in range(5)]
    assert not set(drawn[:3]) & set(model.end_tokens)
    assert drawn[3:] == [end, end]


@pytest.mark.parametrize(
    "settings",
    [
        GREEDY,
        replace(GREEDY, repeat_penalty=1.3),
        replace(GREEDY, dry_multiplier=1),
        SamplerSettings(temperature=1, seed=3),
        replace(OPEN, logit_bias=((5, 3.0), (9, BANNED))),
        replace(OPEN, mirostat=1),
        replace(OPEN, mirostat=2),
        replace(OPEN, adaptive_target=0.3),
        replace(OPEN, typical_p=0.5, top_n_sigma=2.0),
        replace(OPEN, xtc_probability=1, xtc_threshold=0.01),
    ],
)
@pytest.mark.parametrize("gbnf", [gbnf_of_schema(SCHEMA), 'root ::= "Z" "é" "🦊"+ <|im_start|>'])
def test_under_a_grammar_successive_draws_follow_it_with_every_sampler(
    model: Model, context: Context, settings: SamplerSettings, gbnf: str
) -> None:
    with Grammar(model, gbnf) as judge, Sampler(model, settings, Grammar(model, gbnf)) as sampler:
        for index in range(LAST + 1):
            token = sampler.sample(context, index)
            assert judge.allows(token)
            if model.ends_generation(token):
                break
            judge.accept(token)


def test_a_grammar_that_allows_what_would_be_drawn_changes_nothing(model: Model, context: Context) -> None:
    for settings in (GREEDY, OPEN, replace(OPEN, repeat_penalty=1.2), replace(OPEN, xtc_probability=0.5)):
        free = draw(model, context, settings, 20)
        assert draw(model, context, settings, 20, "root ::= ( [^\\x00] | <|im_end|> )*") == free


def test_a_redraw_has_the_distribution_of_filtering_first(
    model: Model, context: Context, probabilities: npt.NDArray[np.float64]
) -> None:
    words = [" dog", " man", " king", " cat"]
    tokens = [token_of(model, word) for word in words]
    gbnf = "root ::= ( " + " | ".join(f'"{word}"' for word in words) + " ) [a-z]*"
    counts = dict.fromkeys(tokens, 0)
    for token in draw(model, context, replace(OPEN, temperature=1), 600, gbnf):
        if token in counts:
            counts[token] += 1
    expected = probabilities[tokens] / probabilities[tokens].sum()
    found = np.array(list(counts.values())) / sum(counts.values())
    assert sum(counts.values()) > 400
    assert np.abs(found - expected).max() < 4 * math.sqrt(0.25 / sum(counts.values()))


def test_greedy_under_a_grammar_takes_the_likeliest_allowed(model: Model, context: Context) -> None:
    gbnf = 'root ::= ["{] [^x]*'
    with Grammar(model, gbnf) as judge:
        allowed = [token for token in range(model.vocab_size) if judge.allows(token)]
    logits = context.logits(LAST)
    best = max(allowed, key=lambda token: float(logits[token]))
    assert draw(model, context, GREEDY, 1, gbnf) == [best]
    second = max((token for token in allowed if token != best), key=lambda token: float(logits[token]))
    assert draw(model, context, replace(GREEDY, logit_bias=((best, BANNED),)), 1, gbnf) == [second]
    raised = replace(GREEDY, logit_bias=((allowed[7], 90.0),))
    assert draw(model, context, raised, 1, gbnf) == [allowed[7]]


@pytest.mark.parametrize("settings", [GREEDY, OPEN, replace(OPEN, mirostat=2), replace(OPEN, dry_multiplier=1)])
def test_where_grammar_and_bans_leave_nothing_the_answer_ends(
    model: Model, context: Context, settings: SamplerSettings
) -> None:
    bans = tuple((token, BANNED) for token in model.end_tokens)
    finished = Grammar(model, 'root ::= ""')
    with Sampler(model, replace(settings, logit_bias=bans), finished) as sampler:
        assert model.ends_generation(sampler.sample(context, LAST))
    with Sampler(model, settings, Grammar(model, 'root ::= ""'), min_tokens=4) as sampler:
        assert model.ends_generation(sampler.sample(context, LAST))


def test_how_many_candidates_decide() -> None:
    assert deciding_candidates(GREEDY) == 1
    assert deciding_candidates(SamplerSettings()) == 40
    assert deciding_candidates(OPEN) is None
    assert deciding_candidates(replace(GREEDY, repeat_penalty=1.1)) is None
    assert deciding_candidates(SamplerSettings(top_n_sigma=1)) is None
    assert deciding_candidates(SamplerSettings(mirostat=2)) is None
