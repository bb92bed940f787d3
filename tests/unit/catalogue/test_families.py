from __future__ import annotations

from pathlib import Path

import pytest

from lilliput.catalogue.families import Families
from lilliput.catalogue.names import FamilyName, HubName, parse_name
from lilliput.errors import BadFile, ModelNotFound
from lilliput.shipped import shipped

SMALL = """
["llama3.1"]
title = "Llama 3.1"
license = "llama3.1"
default = "8b"
aliases = ["llama31-instruct"]
sizes = { 8b = "org/Llama-8B-GGUF", 70b = "org/Llama-70B-GGUF" }
same = { small = "8b" }
"""


def write(folder: Path, text: str, name: str = "families.toml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def small(tmp_path: Path) -> Families:
    return Families.load([write(tmp_path, SMALL)])


def family(text: str) -> FamilyName:
    name = parse_name(text)
    assert isinstance(name, FamilyName)
    return name


@pytest.mark.parametrize(
    ("text", "repo"),
    [
        ("llama3.1", "org/Llama-8B-GGUF"),
        ("llama3.1:70b", "org/Llama-70B-GGUF"),
        ("Llama-3.1:70B-instruct-q4_K_M", "org/Llama-70B-GGUF"),
        ("llama_3_1:8b", "org/Llama-8B-GGUF"),
        ("llama31-Instruct:70b", "org/Llama-70B-GGUF"),
        ("llama3.1:small", "org/Llama-8B-GGUF"),
    ],
)
def test_a_name_finds_its_repository(small: Families, text: str, repo: str) -> None:
    found = small.resolve(family(text))
    assert (found.repo, found.family, found.license, found.title) == (repo, "llama3.1", "llama3.1", "Llama 3.1")
    assert found.name == f"llama3.1:{found.size}"
    assert small.resolve(family(found.name)) == found


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("lama3.1", "no family is called 'lama3.1'", "did you mean llama3.1?"),
        ("zzz", "no family is called 'zzz'", "org/repo"),
        ("llama3.1:80b", "llama3.1 has no size '80b'", "did you mean llama3.1:8b? sizes: 8b, 70b"),
        ("llama3.1:wxyz", "llama3.1 has no size 'wxyz'", "sizes: 8b, 70b"),
    ],
)
def test_an_unknown_name_brings_near_ones(small: Families, text: str, said: str, hint: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        small.resolve(family(text))
    assert said in caught.value.message
    assert caught.value.hint is not None
    assert hint in caught.value.hint


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    families = Families.load([tmp_path / "gone.toml"])
    with pytest.raises(BadFile, match=r"cannot read the families in .*gone\.toml"):
        len(families)


def test_a_later_file_replaces_a_family_and_adds_others(tmp_path: Path) -> None:
    later = SMALL.replace("org/", "mine/") + '[own]\ntitle = "Own"\ndefault = "1b"\nsizes = { 1b = "me/own" }\n'
    families = Families.load([write(tmp_path, SMALL), write(tmp_path, later, "own.toml")])
    assert families.resolve(FamilyName("llama3.1")).repo == "mine/Llama-8B-GGUF"
    assert families.resolve(FamilyName("own")).repo == "me/own"
    assert [one.name for one in families] == ["llama3.1:8b", "llama3.1:70b", "own:1b"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "x is not a table"),
        ("[x", "is not TOML"),
        ("[x]\nrepo = 'a/b'", "x has the unknown key 'repo'"),
        ("[x]\ntitle = 'X'", "x needs a text for the key 'default'"),
        ("[x]\ntitle = 3\ndefault = '1b'\nsizes = { 1b = 'a/b' }", "x needs a text for the key 'title'"),
        ("[x]\ntitle = 'X'\ndefault = '2b'\nsizes = { 1b = 'a/b' }", "has the default '2b', which is not among"),
        ("[x]\ntitle = 'X'\ndefault = '1b'\nsizes = { 1b = 3 }", "x needs a text for the key 'sizes.1b'"),
        ("[x]\ntitle = 'X'\ndefault = '1b'\nsizes = ['1b']", "x needs a table for the key 'sizes'"),
        ("[x]\ntitle = 'X'\ndefault = '1b'\nsizes = { 1b = 'nowhere' }", "'nowhere' for 1b, which is not a repository"),
        ("[x]\ntitle = 'X'\ndefault = '1b'\nsizes = { 1b = 'a/b:Q4_0' }", "which is not a repository"),
        ("[x]\ntitle = 'X'\ndefault = '1b'\nsizes = { 1b = 'hf.co/a/b' }", "which is not a repository"),
        ("[x]\ntitle = 'X'\ndefault = 'q4_0'\nsizes = { q4_0 = 'a/b' }", "the size 'q4_0', which cannot be written"),
        ("[x]\ntitle = 'X'\ndefault = '1b'\nsizes = { 1b = 'a/b' }\nsame = { 2b = '3b' }", "has same.2b = '3b'"),
        (
            "[x]\ntitle = 'X'\ndefault = '1b'\nsizes = { 1b = 'a/b' }\naliases = 'y'",
            "a list of texts for the key 'aliases'",
        ),
        (
            "[x]\ntitle = 'X'\ndefault = '1b'\nsizes = { 1b = 'a/b' }\nlicense = 1",
            "x needs a text for the key 'license'",
        ),
        ("[X]\ntitle = 'X'\ndefault = '1b'\nsizes = { 1b = 'a/b' }", "X is not a family's name"),
        (
            "[x1]\ntitle = 'X'\ndefault = '1b'\nsizes = { 1b = 'a/b' }\n"
            "[x-1]\ntitle = 'X'\ndefault = '1b'\nsizes = { 1b = 'a/b' }",
            "'x-1' would mean both x1 and x-1",
        ),
    ],
)
def test_a_fault_in_a_file_is_named_with_file_and_key(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(BadFile) as caught:
        list(Families.load([path]))
    assert str(path) in caught.value.message
    assert said in caught.value.message


def test_the_shipped_families_are_sound() -> None:
    families = Families.load([shipped("families.toml")])
    assert len(families.families()) >= 40
    for size in families:
        assert families.resolve(family(size.name)) == size
        assert isinstance(parse_name(size.repo), HubName)
        assert "gguf" in size.repo.lower()
        assert size.repo.count("/") == 1
    assert families.resolve(family("smollm2")).name == "smollm2:135m"
    assert families.resolve(family("llama3.1:70b-q4-k-m")).size == "70b"


def test_shipped_files_are_found_in_a_checkout_and_beside_an_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shipped("families.toml").is_file()
    (tmp_path / "shipped").mkdir()
    monkeypatch.setattr("lilliput.shipped._PACKAGE", tmp_path)
    data = write(tmp_path / "shipped", "", "x.toml")
    assert shipped("x.toml") == data
