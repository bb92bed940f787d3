"""The workloads: who takes part in each, and what the clients ask in a round."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench import prompts
from bench.exchange import Ask

OURS, PEER, PYTHON, BARE = "lilliput", "llama-server", "llama-cpp-python", "bare loop"
ONE, EIGHT = "one HTTP stream", "eight HTTP streams"
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
NEW_TOKENS = 96
TEMPLATE = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"

Plan = list[list[Ask]]


@dataclass(frozen=True, slots=True)
class Part:
    """One contestant of a workload: a target, and how its requests differ (``fields`` are added to every body)."""

    label: str
    target: str
    fields: Mapping[str, Any]
    variant: int = 0


@dataclass(frozen=True, slots=True)
class Workload:
    """``clients(round, variant)`` is what the clients ask; ``open_to_others`` lets servers given by URL take part.

    Contestants of a round get the same prompts, but for those that run on the same server: each has a variant of its
    own, or the second would find its prompts computed.
    """

    key: str
    title: str
    parts: tuple[Part, ...]
    clients: Callable[[int, int], Plan]
    open_to_others: bool = True


def workloads(*, quick: bool = False) -> tuple[Workload, ...]:
    """All of them, in the order they run; ``quick`` shortens answers and leaves repetitions out, to try things."""
    size = _Size(24, 1, 16, 3) if quick else _Size(NEW_TOKENS, 2, 64, 6)
    chats = [
        Workload(
            f"a{count}",
            f"chat, {count} client{'s' if count > 1 else ''}",
            _servers(PYTHON) if count == 1 else _servers(),
            size.chat(count),
        )
        for count in (1, 4, 8, 16)
    ]
    return (
        Workload("w", "in the worker, one sequence", (_part(OURS), _part(BARE)), size.single, open_to_others=False),
        *chats,
        Workload("b", "shared prefix of 600 tokens, 8 requests, 4 clients", _servers(), size.shared_prefix),
        Workload("c", f"{size.turns} turns, 4 users", _servers(), size.turns_of_users),
        Workload("d", "a prompt of 3,000 tokens beside 4 streams", _servers(), size.long_prompt),
        Workload(
            "e",
            "output that follows a JSON Schema, 4 clients",
            (_part(OURS, _SCHEMA), _part(PEER, _SCHEMA), _part(OURS, {"ignore_eos": True}, " without schema", 1)),
            size.people,
            open_to_others=False,
        ),
        Workload(
            "f",
            "copy-heavy edit, with and without speculation",
            (
                _part(OURS, {"speculation": "auto"}, " speculating"),
                _part(OURS, {"speculation": "off"}, " not speculating", 1),
            ),
            size.edit,
            open_to_others=False,
        ),
        Workload("g", "64 clients in bursts of 16", _servers(), size.bursts),
    )


_SCHEMA = {
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "people", "strict": True, "schema": prompts.PEOPLE_SCHEMA},
    }
}


@dataclass(frozen=True, slots=True)
class _Size:
    tokens: int
    repeats: int
    turn_tokens: int
    turns: int

    def chat(self, count: int) -> Callable[[int, int], Plan]:
        def plan(number: int, _variant: int) -> Plan:
            return [
                [self._chat_ask(count, number, client, at) for at in range(self.repeats)] for client in range(count)
            ]

        return plan

    def _chat_ask(self, *numbers: int) -> Ask:
        return Ask(CHAT, _body(prompts.chat(prompts.CHAT_TOKENS, *numbers), self.tokens))

    def single(self, number: int, _variant: int) -> Plan:
        prompt = TEMPLATE.format(prompts.story(prompts.CHAT_TOKENS - 10, 7, number))
        fields = {"prompt": prompt, "max_tokens": 4 * self.tokens // 3, "temperature": 0, "ignore_eos": True}
        # The bare loop drafts nothing.
        return [[Ask(TEXT, fields | {"speculation": "off"})]]

    def shared_prefix(self, number: int, _variant: int) -> Plan:
        asks = [Ask(CHAT, _body(prompts.shared_prefix_chat(at, 1000 + number), self.tokens)) for at in range(8)]
        return [asks[client::4] for client in range(4)]

    def turns_of_users(self, number: int, _variant: int) -> Plan:
        return [
            [
                Ask(CHAT, _body(prompts.chat(70, 2000 + number, user, turn), self.turn_tokens), continues=turn > 0)
                for turn in range(self.turns)
            ]
            for user in range(4)
        ]

    def long_prompt(self, number: int, _variant: int) -> Plan:
        streams = [[Ask(CHAT, _body(prompts.chat(60, 3000 + number, client), 4 * self.tokens))] for client in range(4)]
        long = _body(prompts.chat(prompts.LONG_TOKENS, 3000 + number, 4), 8)
        return [*streams, [Ask(CHAT, long, after_chunks=3)]]

    def people(self, number: int, variant: int) -> Plan:
        body = {"messages": None, "max_tokens": 2 * self.tokens, "temperature": 0}
        return [[Ask(CHAT, body | {"messages": prompts.people_request(4000 + number, variant, at)})] for at in range(4)]

    def edit(self, number: int, variant: int) -> Plan:
        return [[Ask(CHAT, _body(prompts.edit_request(variant, number), self.tokens))]]

    def bursts(self, number: int, _variant: int) -> Plan:
        plan = []
        for client in range(64):
            body = _body(prompts.chat(prompts.CHAT_TOKENS, 5000 + number, client), self.tokens // 3)
            plan.append([Ask(CHAT, body, not_before_s=0.5 * (client // 16))])
        return plan


def _body(messages: list[dict[str, Any]], tokens: int) -> dict[str, Any]:
    return {"messages": messages, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}


def _part(target: str, fields: Mapping[str, Any] | None = None, suffix: str = "", variant: int = 0) -> Part:
    return Part(target + suffix, target, fields or {}, variant)


def _servers(*more: str) -> tuple[Part, ...]:
    return tuple(_part(name) for name in (OURS, PEER, *more))
