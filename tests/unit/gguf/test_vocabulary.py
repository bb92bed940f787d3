from __future__ import annotations

import pytest
from tests.support.model import gemma_path, smollm2_path
from tests.unit.gguf import build

from lilliput.errors import BadFile
from lilliput.gguf import BytesSource, FileSource, Vocabulary, read_header, read_vocabulary


def vocabulary(tokens: list[str], *, kind: str = "gpt2", eos: int | None = 1, cut: int = 0) -> Vocabulary:
    entries = [
        build.entry("general.architecture", build.STRING, "llama"),
        build.entry("tokenizer.ggml.model", build.STRING, kind),
        build.array("tokenizer.ggml.tokens", build.STRING, tokens),
        build.entry("tokenizer.ggml.bos_token_id", build.U32, 0),
    ]
    entries += [] if eos is None else [build.entry("tokenizer.ggml.eos_token_id", build.U32, eos)]
    content = build.header(entries)
    header = read_header(BytesSource(content))
    return read_vocabulary(BytesSource(content[: len(content) - cut]), header)


WORDS = [f"w{number}" for number in range(2000)]


@pytest.mark.parametrize("count", [3, 2000])
def test_the_tokens_of_short_and_of_skipped_lists_are_read(count: int) -> None:
    found = vocabulary(WORDS[:count])
    assert found == Vocabulary("gpt2", tuple(word.encode() for word in WORDS[:count]), (0, 1))


def test_a_header_that_is_cut_off_is_named() -> None:
    with pytest.raises(BadFile, match="ends inside"):
        vocabulary(WORDS, eos=None, cut=100)


def test_padding_and_what_one_file_does_not_say_make_no_difference() -> None:
    plain = vocabulary(WORDS)
    assert plain.difference(vocabulary(WORDS)) is None
    assert plain.difference(vocabulary([*WORDS, *["<pad>"] * 128])) is None
    assert vocabulary(WORDS, eos=None).difference(plain) is None


def test_every_other_difference_is_told() -> None:
    plain = vocabulary(WORDS)
    others = {
        "2,000 tokens, the other 2,129": vocabulary([*WORDS, *["<pad>"] * 129]),
        "token 7 is 'w7' in one and 'x' in the other": vocabulary([*WORDS[:7], "x", *WORDS[8:]]),
        "kind gpt2, the other of the kind llama": vocabulary(WORDS, kind="llama"),
        "the eos token is 1 in one and 2 in the other": vocabulary(WORDS, eos=2),
    }
    for told, other in others.items():
        assert told in (plain.difference(other) or "")


def test_real_models_differ() -> None:
    read = []
    for path in (smollm2_path(), gemma_path()):
        with FileSource(path) as source:
            read.append(read_vocabulary(source, read_header(source)))
    assert [len(one.tokens) for one in read] == [49_152, 262_144]
    assert read[0].difference(read[0]) is None
    assert "the kind gpt2, the other of the kind llama" in (read[0].difference(read[1]) or "")
