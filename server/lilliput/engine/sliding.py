"""What is discarded when a context is full and the client has asked to go on. Pure."""

from __future__ import annotations

from lilliput.errors import ContextExceeded, InvalidRequest

LEAST_DISCARDED_TOKENS = 32
"""All that stays is computed again each time, so it must be worth it."""

MOST_CONTEXTS = 10
"""An answer without a limit of its own ends after so many contexts: a model may never end it."""


def kept_tokens(asked: int, prompt_tokens: int, context_tokens: int, *, least: int = 0) -> int:
    """How many tokens of a prompt stay: ``asked``, -1 for all, and ``least`` in any case.

    Raises ContextExceeded where they fill the context, InvalidRequest where they leave too little to discard.
    """
    keep = prompt_tokens if asked < 0 else min(max(asked, least), prompt_tokens)
    if keep >= context_tokens:
        raise ContextExceeded(keep, context_tokens)
    most = context_tokens - 2 * LEAST_DISCARDED_TOKENS
    if keep > most:
        raise InvalidRequest(
            f"'n_keep' keeps {keep} tokens of a context of {context_tokens}, which leaves too little to discard",
            hint=f"keep at most {most}",
            param="n_keep",
        )
    return keep


def excess_tokens(tokens: int, keep: int, context_tokens: int) -> int:
    """How many tokens behind the first ``keep`` go so that one more fits: 0, or half of what the context has beside
    those, as often as needed.

    In such steps a growing conversation loses the same tokens turn after turn, so its prefix can be reused.
    """
    step = (context_tokens - keep) // 2
    over = tokens - context_tokens + 1
    return -(-over // step) * step if over > 0 else 0
