from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lilliput.catalogue.names import FamilyName, HubName, ModelName, PathName, parse_name
from lilliput.errors import BadName


@pytest.mark.parametrize(
    ("text", "name", "canonical"),
    [
        ("smollm2", FamilyName("smollm2"), "smollm2"),
        ("llama3.1:70b", FamilyName("llama3.1", "70b"), "llama3.1:70b"),
        ("llama3.1:70b-q4-k-m", FamilyName("llama3.1", "70b", "Q4_K_M"), "llama3.1:70b-q4_k_m"),
        ("llama3.1:q4_k_m", FamilyName("llama3.1", None, "Q4_K_M"), "llama3.1:q4_k_m"),
        ("llama3.1:latest", FamilyName("llama3.1"), "llama3.1"),
        ("llama3.1:70b-instruct-q4_K_M", FamilyName("llama3.1", "70b", "Q4_K_M"), "llama3.1:70b-q4_k_m"),
        ("LLAMA3.1:70B-Q4.K.M", FamilyName("llama3.1", "70b", "Q4_K_M"), "llama3.1:70b-q4_k_m"),
        ("qwen2.5:0.5b-instruct-fp16", FamilyName("qwen2.5", "0.5b", "F16"), "qwen2.5:0.5b-f16"),
        ("qwen3:30b-a3b-ud-q4-k-xl", FamilyName("qwen3", "30b-a3b", "UD-Q4_K_XL"), "qwen3:30b-a3b-ud-q4_k_xl"),
        ("mixtral:8x7b-iq3_xxs", FamilyName("mixtral", "8x7b", "IQ3_XXS"), "mixtral:8x7b-iq3_xxs"),
        ("gpt-oss:20b-mxfp4", FamilyName("gpt-oss", "20b", "MXFP4"), "gpt-oss:20b-mxfp4"),
        ("gemma3n:e4b", FamilyName("gemma3n", "e4b"), "gemma3n:e4b"),
        ("phi3:mini", FamilyName("phi3", "mini"), "phi3:mini"),
        ("gemma3:4b-it-q8_0", FamilyName("gemma3", "4b", "Q8_0"), "gemma3:4b-q8_0"),
        ("  smollm2  ", FamilyName("smollm2"), "smollm2"),
        ("hf.co/org/repo:Q4_K_M", HubName("org/repo", "Q4_K_M"), "org/repo:Q4_K_M"),
        ("HF.co/org/repo:q4-k-m", HubName("org/repo", "Q4_K_M"), "org/repo:Q4_K_M"),
        ("huggingface.co/org/repo", HubName("org/repo"), "org/repo"),
        ("https://huggingface.co/org/repo", HubName("org/repo"), "org/repo"),
        ("https://hf.co/org/repo/", HubName("org/repo"), "org/repo"),
        ("https://huggingface.co/org/repo/tree/main/Q8_0", HubName("org/repo"), "org/repo"),
        (
            "https://huggingface.co/org/repo/blob/main/d/a%20b.gguf?download=true#x",
            HubName("org/repo", file="d/a b.gguf"),
            "org/repo/d/a b.gguf",
        ),
        ("https://huggingface.co/org/repo/resolve/main/f.gguf", HubName("org/repo", file="f.gguf"), "org/repo/f.gguf"),
        ("hf://org/repo:Q8_0", HubName("org/repo", "Q8_0"), "org/repo:Q8_0"),
        ("org/repo", HubName("org/repo"), "org/repo"),
        ("org/repo:latest", HubName("org/repo"), "org/repo"),
        ("org/repo:Q4_K_M", HubName("org/repo", "Q4_K_M"), "org/repo:Q4_K_M"),
        ("org/repo:ud-q4_k_xl", HubName("org/repo", "UD-Q4_K_XL"), "org/repo:UD-Q4_K_XL"),
        ("org/repo/file.gguf", HubName("org/repo", file="file.gguf"), "org/repo/file.gguf"),
        ("org/repo/dir/file.gguf", HubName("org/repo", file="dir/file.gguf"), "org/repo/dir/file.gguf"),
        ("org/repo:file.gguf", HubName("org/repo", file="file.gguf"), "org/repo/file.gguf"),
        (
            "dranger003/Some-Model-iMat.GGUF",
            HubName("dranger003/Some-Model-iMat.GGUF"),
            "dranger003/Some-Model-iMat.GGUF",
        ),
        ("./file.gguf", PathName(Path("file.gguf")), "./file.gguf"),
        ("../x/file.gguf", PathName(Path("../x/file.gguf")), str(Path("../x/file.gguf"))),
        ("file.gguf", PathName(Path("file.gguf")), "./file.gguf"),
        ("/abs/file.gguf", PathName(Path("/abs/file.gguf")), str(Path("/abs/file.gguf"))),
        ("C:\\x\\file.gguf", PathName(Path("C:\\x\\file.gguf")), "C:\\x\\file.gguf"),
        ("c:/x/file.gguf", PathName(Path("c:/x/file.gguf")), str(Path("c:/x/file.gguf"))),
        ("/blobs/sha256-without-suffix", PathName(Path("/blobs/sha256-without-suffix")), None),
    ],
)
def test_every_accepted_form_is_read(text: str, name: ModelName, canonical: str | None) -> None:
    parsed = parse_name(text)
    assert parsed == name
    if canonical is not None:
        assert str(parsed) == canonical
        assert parse_name(canonical) == name


def test_a_home_directory_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/gulliver")
    monkeypatch.setenv("USERPROFILE", "/home/gulliver")
    assert parse_name("~/file.gguf") == PathName(Path("/home/gulliver/file.gguf"))


def test_repositories_keep_their_letter_case_but_are_equal_without() -> None:
    one, other = parse_name("Org/Repo-GGUF:q8_0"), parse_name("org/repo-gguf:Q8_0")
    assert one == other
    assert hash(one) == hash(other)
    assert str(one) == "Org/Repo-GGUF:Q8_0"
    assert one != parse_name("org/repo-gguf")
    assert one != parse_name("org/repo-gguf:Q4_0")
    assert one != "Org/Repo-GGUF:Q8_0"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("x" * 513, "513 characters"),
        ("org/" + "r" * 97, "is not a repository"),
        ("smol\x00lm2", "control characters"),
        ("smol\nlm2", "control characters"),
        ("smollm2\u202e", "control characters"),
        ("my model", "is not a family's name"),
        ("llama3.1:", "nothing follows the colon"),
        ("org/repo:", "nothing follows the colon"),
        (":70b", "is not a family's name"),
        ("llama3.1:70b:q4_0", "is not a tag"),
        ("llama3.1:q9_k", "'q9_k' is not a known quantization"),
        ("llama3.1:70b-q4_k_z", "'q4_k_z' is not a known quantization"),
        ("org/repo:Q4_K_Z", "'Q4_K_Z' is not a known quantization"),
        ("org/", "is not a repository"),
        ("/org", None),
        ("hf.co/org", "is not a repository"),
        ("hf.co/", "is not a repository"),
        ("a/../b.gguf", "is not a repository"),
        ("org/repo/../../etc/passwd.gguf", "is not a plain path"),
        ("org/repo/./x.gguf", "is not a plain path"),
        ("org/repo//x.gguf", "is not a plain path"),
        ("org/repo/..\\x.gguf", "is not a plain path"),
        ("org/repo:../x.gguf", "is not a plain path"),
        ("https://huggingface.co/org/repo/blob/main/%2e%2e/x.gguf", "is not a plain path"),
        ("https://huggingface.co/org/repo/blob/main/a%00.gguf", "control characters"),
        ("https://huggingface.co/org/repo/blob/v2/x.gguf", "the revision 'v2' cannot be chosen"),
        ("org/repo/x.gguf:Q4_0", "a file takes no tag"),
        ("org/repo/README.md", "is not a .gguf file"),
        ("org/repo/dir", "is not a .gguf file"),
        ("https://example.com/org/repo", "only addresses on huggingface.co"),
        ("ftp://huggingface.co/org/repo", "only addresses on huggingface.co"),
        ("https://huggingface.co.evil.com/org/repo", "only addresses on huggingface.co"),
        ("https://user@huggingface.co/org/repo", "only addresses on huggingface.co"),
        ("-org/repo", "is not a repository"),
        ("org/re--po", "is not a repository"),
        ("org/repo.", "is not a repository"),
        ("org/répo", "is not a repository"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_accepted_forms(text: str, why: str | None) -> None:
    if why is None:
        assert isinstance(parse_name(text), PathName)
        return
    with pytest.raises(BadName) as caught:
        parse_name(text)
    assert why in caught.value.message
    assert caught.value.hint is not None
    assert "org/repo:Q4_K_M" in caught.value.hint
    assert caught.value.param == "model"
    assert len(caught.value.message) < 1000


@given(st.text(alphabet="aQ4_km.:/\\-~C%20 \n\0é", max_size=40))
def test_any_text_is_a_name_or_a_bad_name(text: str) -> None:
    try:
        name = parse_name(text)
    except BadName:
        return
    if isinstance(name, HubName):
        assert ".." not in (name.file or "").split("/")
    if not isinstance(name, PathName):
        assert parse_name(str(name)) == name
