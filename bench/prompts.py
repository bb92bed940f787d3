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


def edit_request(variant: int, number: int) -> list[dict[str, Any]]:
    """A text to be written again with its spelling put right: an answer that is mostly copied from its prompt.

    Other variants ask the same of the same text, but have only the template in common.
    """
    task = f"Request {variant}{number}: correct the spelling in this text. Repeat the whole text with the correction."
    return [{"role": "user", "content": f"{task}\n\n{_TEXTS[number % len(_TEXTS)]}"}]


_TEXTS = (
    "Marta opened the workshop at seven, as she had done for eleven years. The lathe was cold, so she let it run "
    "while the kettle boiled. On the bench lay a violin without strings, brought by a student who had dropped it "
    "on the stairs of the conservatory. The crack went from the lower edge almost to the brdge, thin as a hair. "
    "She warmed the glue, laid out six small clamps and switched off the radio, because this kind of work wanted "
    "silence and a steady hand.",
    "The ferry to the northern islands leaves twice a week, on Tuesdays and Fridays, if the wind allows. "
    "Passengers bring their own food and a blanket, since the crossing takes nine hours and the canteen closes "
    "early. Cars are loaded first, then bicycles, then dogs. Last autumn a storm kept the ship in harbour for "
    "eight days, and the schoool in Norby held lessons in the waiting room, with the ticket counter as a desk and "
    "the timetable as a blackboard.",
    "The night train from Lisbon was late again. In the last carriage a man with a cello case taught two children "
    "to play cards, while their mother slept with her shoes in her lap. At the border nobody asked for papers. A "
    "conductor brought tea in paper cups and said that the bridge ahead was under repiar, so the train would wait "
    "until six. The children won eleven games. When the sun came up there were storks on every chimney, and the "
    "man opened his case and played for them.",
    "When the observatory was built, the town below had forty lamps and no railway. Today the astronomers drive "
    "two hours into the desert to find a dark sky. The old dome still turns, though, and on Saturdays visitors "
    "may look through the brass telescope at the rings of Saturn. Professor Okafor, who retired in spring, gives "
    "the tours herself. She says that childern ask the best questions, and that nobody has ever left without "
    "looking up once more.",
    "The library owns one copy of the map, drawn in ink on calf skin in the year of the great flood. It shows the "
    "river with three arms, of which two have since dried up, and a monastery where now the airport stands. "
    "Researchers must wear gloves and may stay for an hour. A phtograph hangs in the corridor for everyone else. "
    "Last month a surveyor compared it with satellite images and found that most distances were wrong by less "
    "than a tenth.",
)
