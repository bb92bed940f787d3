"""Prompts of known length that no earlier request has computed: made from words by number, the same in every run."""

from __future__ import annotations

import random
from typing import Any

CHAT_TOKENS = 140
PREFIX_TOKENS = 600
LONG_TOKENS = 3000

_WHO = ("a sailor", "the old miller", "my neighbour", "a young baker", "the keeper", "her teacher", "a lost fox")
_DID = ("found", "carried", "painted", "forgot", "measured", "repaired", "sold", "followed", "counted", "hid")
_WHAT = ("a green lamp", "three letters", "the river stone", "an empty boat", "some bread", "the small clock", "a map")
_WHERE = ("near the bridge", "behind the mill", "in the harbour", "under the snow", "at the market", "by the sea")
_WHEN = ("before the storm", "in early spring", "late at night", "after the feast", "every morning", "that winter")

_TOKENS_PER_WORD = 1.1
"""Of such sentences, with the number before each and the full stop, in the embedded model's vocabulary."""

_TEMPLATE_TOKENS = 31
"""What the embedded model's chat template adds around one message, its system prompt included."""


def story(tokens: int, *numbers: int) -> str:
    """About ``tokens`` tokens of sentences; other ``numbers`` give another text from its first words on."""
    chance = random.Random(repr(numbers))  # noqa: S311 - no secret
    words = f"Case {'-'.join(map(str, numbers))}:".split()
    while len(words) * _TOKENS_PER_WORD < tokens:
        parts = [chance.choice(kind) for kind in (_WHO, _DID, _WHAT, _WHERE, _WHEN)]
        words += f"{' '.join(parts).capitalize()}.".split()
    return " ".join(words[: round(tokens / _TOKENS_PER_WORD)])


def chat(tokens: int, *numbers: int) -> list[dict[str, Any]]:
    """One message that makes a prompt of about ``tokens`` tokens."""
    task = " Tell what happens next, in many words."
    return [{"role": "user", "content": story(tokens - _TEMPLATE_TOKENS - 9, *numbers) + task}]


def shared_prefix_chat(number: int, *prefix: int) -> list[dict[str, Any]]:
    """A prompt with some 600 tokens that are the same for each ``number`` of the same ``prefix``, and an own end."""
    question = f"Question {number}: what would {_WHO[number % len(_WHO)]} say about it, and why?"
    return [
        {"role": "system", "content": story(PREFIX_TOKENS - 10, *prefix)},
        {"role": "user", "content": f"{question} {story(30, *prefix, number)}"},
    ]


def people_request(*numbers: int) -> list[dict[str, Any]]:
    """A prompt whose answer is to follow ``PEOPLE_SCHEMA``."""
    text = f"{story(60, *numbers)} List four people of this village as JSON: name, age, trade, and whether they sail."
    return [{"role": "user", "content": text}]


PEOPLE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "people": {
            "type": "array",
            "minItems": 4,
            "maxItems": 4,
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "minLength": 2, "maxLength": 16},
                    "age": {"type": "integer", "minimum": 1, "maximum": 99},
                    "trade": {"enum": ["sailor", "miller", "baker", "keeper", "teacher"]},
                    "sails": {"type": "boolean"},
                },
                "required": ["name", "age", "trade", "sails"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["people"],
    "additionalProperties": False,
}


def edit_request(*numbers: int) -> list[dict[str, Any]]:
    """A text to be written again with one small change: an answer that is mostly copied from its prompt."""
    chance = random.Random(repr(numbers))  # noqa: S311 - no secret
    names = chance.sample(("harbour", "mill", "bridge", "market", "tower", "garden", "cellar", "school"), 5)
    lines = [f"{name}_port = {chance.randrange(2000, 9000)}  # where the {name} listens for letters" for name in names]
    text = "\n".join(["[village]", *lines, "timeout_s = 30"])
    task = "Write this file again, exactly as it is, but with timeout_s = 60. Answer with the file only."
    return [{"role": "user", "content": f"{task}\n\n```toml\n{text}\n```"}]
