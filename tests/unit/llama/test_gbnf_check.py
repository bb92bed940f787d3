from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lilliput.errors import BadGrammar
from lilliput.llama.gbnf import BUILT_IN
from lilliput.llama.gbnf_check import check_gbnf
from lilliput.llama.grammar import Grammar, gbnf_of_schema
from lilliput.llama.model import Model

GOOD = [
    'root ::= "a"',
    '# a list\nroot ::= item+ # end\r\nitem ::= "- " [^\\n\\]a-z-]{1,5} (\n  "x" |\n  "y"\n)? "\\n"\n',
    "root ::= .* <|im_end|> !<[7]>",
    'root ::= ""',
    'root ::= "a"{2} "b"{1,} "c"{0,3} | ()',
    'expr ::= term ("+" term)*\nterm ::= [0-9]+ | "(" expr ")"\nroot ::= expr',
    'root ::= "é\\u00e9\\U0001F98A\\x41\\t"',
]
FAULTY = [
    ("root ::= (", 1, "ends where|never closed"),
    ('root ::= "a"\nb ::= ( "x"', 2, "never closed"),
    ('root ::= "a\n\n', 1, "never closed"),
    ("root ::= [a-z", 1, "never closed"),
    ('root ::= "a" "\\q"', 1, "unknown escape"),
    ('\n\nroot ::= x\ny ::= "a"', 3, "'x'"),
    ('root = "a"', 1, "'::='"),
    ("root ::= my_rule", 1, "'_'"),
    ("root ::= *", 1, "nothing that could be repeated"),
    ('root ::= "" +', 1, "nothing that could be repeated"),
    ('root ::= "a"{5,2}', 1, "at least 5 and at most 2"),
    ('root ::= "a"{3000}', 1, "2000 times"),
    ('root ::= "a"{,3}', 1, "repetition"),
    ('root ::= "a"\nroot ::= "b"', 2, "second time"),
    ('root ::= "a" )', 1, r"'\)'"),
    ("root ::= <nowhere", 1, "token"),
    ('root ::= root "a" | "b"', 1, "left recursion"),
    ('root ::= "a" | b\nb ::= c "x"\nc ::= b "y" | "z"', 2, "left recursion"),
    ('x ::= y\ny ::= "a"?\nroot ::= x root "b" | "c"', 3, "left recursion"),
    ("root ::= " + "(" * 100 + '"a"' + ")" * 100, 1, "deeper"),
    ('root ::= "' + "a" * 30_000 + '"{2000}', 1, "elements"),
]


@pytest.mark.parametrize("gbnf", GOOD)
def test_what_the_library_takes_is_taken(model: Model, gbnf: str) -> None:
    check_gbnf(gbnf)
    with Grammar(model, gbnf):
        pass


@pytest.mark.parametrize(("gbnf", "line", "what"), FAULTY)
def test_a_fault_is_named_with_its_line(gbnf: str, line: int, what: str) -> None:
    with pytest.raises(BadGrammar, match=what) as fault:
        check_gbnf(gbnf)
    assert f"line {line} of the grammar" in fault.value.message


def test_a_grammar_has_a_root_and_bounds() -> None:
    with pytest.raises(BadGrammar, match="root"):
        check_gbnf('start ::= "a"')
    with pytest.raises(BadGrammar, match="root"):
        check_gbnf("")
    with pytest.raises(BadGrammar, match="characters"):
        check_gbnf("#" * 100_000)
    with pytest.raises(BadGrammar, match="one rule more"):
        check_gbnf("\n".join(f'r{number} ::= "a"' for number in range(1_001)))


def test_what_schemas_become_passes() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "number", "minimum": 0}}}}
    check_gbnf(gbnf_of_schema(schema))
    check_gbnf("\n".join(["root ::= object", *(f"{name} ::= {text}" for name, (text, _) in BUILT_IN.items())]))


def test_long_chains_of_rules_are_read_in_good_time(model: Model) -> None:
    chain = "\n".join(f"r{number} ::= r{number + 1}?" for number in range(998))
    gbnf = f'root ::= r0\n{chain}\nr998 ::= "a"'
    check_gbnf(gbnf)
    with Grammar(model, gbnf) as grammar:
        assert grammar.allows(model.tokenize("a", add_special=False, parse_special=False)[0])


_PIECES = st.sampled_from(
    ["root", "a", " ::= ", "\n", "(", ")", "|", "*", "+", "?", "{2}", "{0,3}", "{1,}", '"x"', "[a-c]", "[^b]", ".", " "]
)


@given(st.lists(_PIECES, max_size=14).map(lambda pieces: 'a ::= "y"\nroot ::= ' + " ".join(pieces)))
def test_what_passes_never_ends_the_process(model: Model, gbnf: str) -> None:
    with suppress(BadGrammar):
        check_gbnf(gbnf)
        # The library may still refuse what only it sees, such as a repetition of something possibly empty.
        with Grammar(model, gbnf) as grammar:
            grammar.allows(100)
