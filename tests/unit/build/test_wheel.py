"""Building and reusing the llama-cpp-python wheel, with a stand-in for pip."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import llama_wheel
import pytest
from llama_backend import Choice, InstallError, Machine
from llama_wheel import Recipe

NAME = "llama_cpp_python-0.3.36-py3-none-any.whl"
RECIPE = Recipe("0.3.36", Choice("cpu", "a test"), Machine("Linux"), ("-DTEST=a b",), "the-key")

# Found before the real pip through PYTHONPATH: notes how it was called, and makes what pip would make.
FAKE_PIP = """
import json, os, pathlib, sys, zipfile
words = sys.argv[1:]
with open(os.environ["FAKE_PIP_CALLS"], "a") as calls:
    call = {"words": words, "cmake_args": os.environ.get("CMAKE_ARGS"), "path": os.environ["PATH"]}
    calls.write(json.dumps(call) + chr(10))
if "download" in words:
    pathlib.Path(words[words.index("-d") + 1], "llama_cpp_python-0.3.36.tar.gz").touch()
else:
    for step in range(1, 41):
        print(f"  [{step}/40] building")
    if os.environ.get("FAKE_PIP_FAILS"):
        print("fatal error: no such header")
        sys.exit(7)
    folder = pathlib.Path(words[words.index("-w") + 1])
    folder.mkdir()
    with zipfile.ZipFile(folder / "llama_cpp_python-0.3.36-py3-none-any.whl", "w") as wheel:
        wheel.writestr("llama_cpp/__init__.py", "")
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    package = tmp_path / "fake" / "pip"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text(FAKE_PIP)
    monkeypatch.setenv("PYTHONPATH", str(package.parent))
    monkeypatch.setenv("FAKE_PIP_CALLS", str(tmp_path / "calls"))
    monkeypatch.setattr("llama_wheel._require_compilers", lambda: None)
    return tmp_path / "calls"


def ensure(cache: Path) -> Path:
    return llama_wheel.ensure(RECIPE, Path(sys.executable), cache)


def test_a_wheel_is_built_once_and_then_reused(calls: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = tmp_path / "cache"
    first = ensure(cache)
    told = capsys.readouterr().out
    second = ensure(cache)
    assert first == second == cache / "the-key" / NAME
    assert zipfile.is_zipfile(first)
    assert len(calls.read_text().splitlines()) == 2, "one download and one build"
    assert "building for cpu (a test)" in told
    assert "min on" in told
    assert "reusing" in capsys.readouterr().out


def test_the_source_is_checked_and_the_build_takes_nothing_from_the_network(
    calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CMAKE_ARGS", "-DMINE=ON")
    ensure(tmp_path / "cache")
    download, build = (json.loads(line) for line in calls.read_text().splitlines())
    assert {"--require-hashes", "--no-deps", "--no-build-isolation"} <= set(download["words"])
    assert {"--no-index", "--no-cache-dir", "--no-deps", "--no-build-isolation"} <= set(build["words"])
    assert build["cmake_args"] == "'-DTEST=a b' -DMINE=ON", "the user's options come last, so they win"
    assert build["path"].startswith(str(Path(sys.executable).parent)), "ninja is found beside python"


def test_a_failed_build_shows_its_last_lines_and_leaves_only_the_log(
    calls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_PIP_FAILS", "1")
    cache = tmp_path / "cache"
    with pytest.raises(InstallError, match="no such header") as caught:
        ensure(cache)
    log = cache / "llama-cpp-python.log"
    assert "exit code 7" in str(caught.value)
    assert "[1/40]" not in str(caught.value)
    assert str(log) in caught.value.hint
    assert "[1/40]" in log.read_text()
    assert list(cache.iterdir()) == [log]


def test_a_damaged_wheel_is_not_reused(calls: Path, tmp_path: Path) -> None:
    broken = tmp_path / "cache" / "the-key" / NAME
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"half of a wh")
    assert zipfile.is_zipfile(ensure(tmp_path / "cache"))


def test_a_build_that_finished_first_elsewhere_is_taken(tmp_path: Path) -> None:
    stored, late = tmp_path / "cache" / "the-key" / NAME, tmp_path / "build" / NAME
    for wheel, text in ((stored, "first"), (late, "late")):
        wheel.parent.mkdir(parents=True)
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("who", text)
    assert llama_wheel._store(late, stored.parent) == stored
    assert zipfile.ZipFile(stored).read("who") == b"first"


def test_missing_tools_are_named_before_anything_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_wheel.shutil.which", lambda name: None if name == "cmake" else name)
    with pytest.raises(InstallError, match="cmake") as caught:
        ensure(tmp_path)
    assert "apt install cmake" in caught.value.hint
    monkeypatch.setattr("llama_wheel.shutil.which", lambda name: name if name == "cmake" else None)
    monkeypatch.setattr("llama_wheel.sys.platform", "linux")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(InstallError, match=r"C\+\+ compiler"):
        ensure(tmp_path)


def test_what_changes_the_build_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_backend.look", lambda environ: Machine("Linux", nvcc="/opt/nvcc"))
    plain = llama_wheel.plan("cpu", {})
    assert plain.version == "0.3.36"
    assert plain.key == llama_wheel.plan(None, {"HOME": "/elsewhere"}).key
    others = [llama_wheel.plan("cuda", {}), llama_wheel.plan("cpu", {"CMAKE_ARGS": "-DGGML_NATIVE=OFF"})]
    monkeypatch.setattr("llama_backend.cpu_digest", lambda: "another-cpu")
    others.append(llama_wheel.plan("cpu", {}))
    assert len({plain.key, *(other.key for other in others)}) == 4


@pytest.mark.parametrize(
    ("platform", "environ", "expected"),
    [
        ("linux", {}, "~/.cache/lilliput/wheels"),
        ("linux", {"XDG_CACHE_HOME": "/var/cache/me"}, "/var/cache/me/lilliput/wheels"),
        ("darwin", {}, "~/Library/Caches/lilliput/wheels"),
        ("win32", {"LOCALAPPDATA": "/users/me/local"}, "/users/me/local/lilliput/wheels"),
        ("win32", {}, "~/AppData/Local/lilliput/wheels"),
        ("linux", {"LILLIPUT_WHEEL_CACHE": "/mine"}, "/mine"),
    ],
)
def test_wheels_are_kept_where_the_system_keeps_caches(
    platform: str, environ: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llama_wheel.sys.platform", platform)
    assert llama_wheel.cache_dir(environ) == Path(expected).expanduser().absolute()
