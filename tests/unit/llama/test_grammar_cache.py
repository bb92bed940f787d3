from __future__ import annotations

import threading

import pytest

from lilliput.errors import BadGrammar
from lilliput.llama import grammar as module
from lilliput.llama.grammar import Grammar, GrammarCache
from lilliput.llama.model import Model

GBNF = 'root ::= "yes" "!" | "no"'


def token(model: Model, text: str) -> int:
    return model.tokenize(text, add_special=False, parse_special=False)[0]


def test_a_clone_goes_its_own_way(model: Model) -> None:
    yes, no, mark = (token(model, text) for text in ("yes", "no", "!"))
    with Grammar(model, GBNF) as first:
        first.accept(yes)
        with first.clone() as second:
            second.accept(mark)
            assert first.allows(mark)
            assert not second.allows(mark)
        assert not first.allows(no)
    cache = GrammarCache(model)
    with cache.of_gbnf(GBNF) as one, cache.of_gbnf(GBNF) as other:
        cache.close()
        one.accept(yes)
        assert other.allows(no)
        assert not one.allows(no)


def test_a_text_is_compiled_once_while_it_is_among_the_latest(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    class Counted(Grammar):
        def __init__(self, model: Model, gbnf: str) -> None:
            compiled.append(gbnf)
            super().__init__(model, gbnf)

    monkeypatch.setattr(module, "Grammar", Counted)
    cache = GrammarCache(model, capacity=2)
    texts = [f'root ::= "{number}"' for number in range(3)]
    for text in (texts[0], texts[1], texts[0], texts[2], texts[0], texts[1]):
        cache.of_gbnf(text).close()
    assert compiled == [texts[0], texts[1], texts[2], texts[1]]
    cache.of_schema('{"type":"integer"}').close()
    cache.of_schema('{"type":"integer"}').close()
    assert len(compiled) == 5
    cache.close()


def test_faults_are_told_each_time_and_kept_never(model: Model) -> None:
    cache = GrammarCache(model)
    for _ in range(2):
        with pytest.raises(BadGrammar, match="line 2"):
            cache.of_gbnf('root ::= a\na ::= "')
        with pytest.raises(BadGrammar, match="not JSON"):
            cache.of_schema("{")


def test_threads_may_share_a_cache(model: Model) -> None:
    cache = GrammarCache(model, capacity=3)
    faults: list[BaseException] = []

    def work(start: int) -> None:
        try:
            for number in range(start, start + 60):
                digit = str(number % 7)
                with cache.of_gbnf(f'root ::= "{digit}"') as grammar:
                    assert grammar.allows(token(model, digit))
        except BaseException as fault:
            faults.append(fault)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    cache.close()
