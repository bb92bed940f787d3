from __future__ import annotations

import pytest

from lilliput.errors import BadGrammar
from lilliput.llama.grammar import Grammar, gbnf_of_schema
from lilliput.llama.model import Model


@pytest.mark.parametrize("gbnf", ["root ::= (", 'start ::= "a"', "root ::= undefined-rule", ""])
def test_a_faulty_grammar_is_an_error_and_no_crash(model: Model, gbnf: str) -> None:
    with pytest.raises(BadGrammar):
        Grammar(model, gbnf)


def test_a_grammar_judges_single_tokens(model: Model) -> None:
    yes, no = (model.tokenize(text, add_special=False, parse_special=False)[0] for text in ("yes", "no"))
    with Grammar(model, 'root ::= "yes"') as grammar:
        assert grammar.allows(yes)
        assert not grammar.allows(no)
        assert not grammar.allows(model.end_tokens[0])
        grammar.accept(yes)
        assert grammar.allows(model.end_tokens[0])


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"$ref": "#/$defs/missing"},
        {"type": "string", "pattern": "un(balanced"},
        {"type": "object", "properties": 5},
    ],
)
def test_a_schema_that_cannot_be_expressed_is_a_clear_error(schema: dict[str, object]) -> None:
    with pytest.raises(BadGrammar, match="schema"):
        gbnf_of_schema(schema)


@pytest.mark.parametrize("gbnf", ['root ::= "\ud800"', 'root ::= "a\0b"'])
def test_text_that_the_library_cannot_take_is_an_error(model: Model, gbnf: str) -> None:
    with pytest.raises(BadGrammar):
        Grammar(model, gbnf)


def test_the_start_rule_is_hinted_at_only_when_it_is_missing(model: Model) -> None:
    with pytest.raises(BadGrammar) as missing:
        Grammar(model, 'start ::= "a"')
    with pytest.raises(BadGrammar) as faulty:
        Grammar(model, "root ::= undefined-rule")
    assert "root" in str(missing.value.hint)
    assert "root" not in str(faulty.value.hint)
