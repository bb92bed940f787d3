"""Which build is installed, and what else of its kind lies about."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lilliput.llama import build_digest, read_build


def test_the_build_in_use_is_found_without_loading_it() -> None:
    build = read_build(loader_path="")
    assert build.versions[:1] == (build.pinned or build.versions[0],)
    assert Path(build.folders[0], "llama_cpp.py").is_file()
    assert build.digest == build_digest()
    assert all(len(set(numbers)) == 1 for numbers in build.libraries.values())
    assert build.strangers == ()


def test_a_second_installation_is_found(tmp_path: Path) -> None:
    for name, version in (("one", "0.3.36"), ("two", "0.2.1")):
        info = tmp_path / name / f"llama_cpp_python-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: llama-cpp-python\nVersion: {version}\n")
        (tmp_path / name / "llama_cpp").mkdir()
        (tmp_path / name / "llama_cpp" / "__init__.py").touch()
    build = read_build([str(tmp_path / "one"), str(tmp_path / "two"), str(tmp_path / "one")], "")
    assert build.versions == ("0.3.36", "0.2.1")
    assert build.folders == (str(tmp_path / "one" / "llama_cpp"), str(tmp_path / "two" / "llama_cpp"))


def test_libraries_that_the_loader_would_find_first_are_strangers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("libllama.so", "libggml-base.so.0", "libother.so"):
        (tmp_path / name).touch()
    expected = (str(tmp_path / "libllama.so"), str(tmp_path / "libggml-base.so.0"))
    assert read_build(loader_path=f"{tmp_path}{os.pathsep}{tmp_path}/none").strangers == expected
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    assert read_build().strangers == expected


def test_remains_of_another_build_and_backends_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("libllama.so.0.4.9", "libllama.so.0.5.0", "libllama.so.0", "libggml-cuda.so", "libggml-cpu.so.0.25.3")
    for name in names:
        (tmp_path / name).touch()
    monkeypatch.setattr("lilliput.llama.build._libraries", lambda: sorted(tmp_path.iterdir()))
    build = read_build(loader_path="")
    assert build.libraries == {"llama": ("0.4.9", "0.5.0"), "ggml-cpu": ("0.25.3",)}
    assert build.backends == ("cpu", "cuda")
