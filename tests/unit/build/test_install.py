"""The installer's steps and its words; `make install` itself is what CI starts with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import install
import llama_wheel
import pytest
from install import Venv
from llama_backend import Choice, InstallError, Machine
from llama_wheel import Recipe


@pytest.fixture
def pip_calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An environment in which everything works and nothing is installed."""
    calls: list[str] = []
    monkeypatch.setattr(Venv, "version", lambda self: "3.11.9")
    monkeypatch.setattr(Venv, "pip", lambda self, *arguments: calls.append(" ".join(arguments)))
    monkeypatch.setattr(
        llama_wheel,
        "plan",
        lambda backend: Recipe("1", Choice(backend or "cpu", ""), Machine("Linux"), (), f"k-{backend}"),
    )
    monkeypatch.setattr(llama_wheel, "ensure", lambda recipe, python, cache: Path("built.whl"))
    monkeypatch.setattr(
        "install.subprocess.run", lambda command, check: subprocess.CompletedProcess[str](command, returncode=0)
    )
    return calls


def test_all_is_installed_from_hashes_once(pip_calls: list[str], tmp_path: Path) -> None:
    for _ in range(2):
        install.install(Venv(tmp_path), backend=None, dev=True, editable=True)
    build, packages, model, llama, project = pip_calls
    assert all(call.startswith("--require-hashes --no-deps") for call in (build, packages, model))
    assert packages.endswith("dev.txt")
    assert llama.endswith("built.whl")
    assert "-e" in project.split()
    assert "--no-build-isolation" in project


def test_only_what_changed_is_done_again(pip_calls: list[str], tmp_path: Path) -> None:
    install.install(Venv(tmp_path), backend=None, dev=True, editable=True)
    pip_calls.clear()
    install.install(Venv(tmp_path), backend="vulkan", dev=True, editable=True)
    assert len(pip_calls) == 1
    assert pip_calls[0].endswith("built.whl")


def test_for_cuda_what_asks_nvidia_s_driver_is_installed_too(pip_calls: list[str], tmp_path: Path) -> None:
    install.install(Venv(tmp_path), backend="cuda", dev=False, editable=True)
    assert [call for call in pip_calls if call.endswith("nvidia.txt")] == pip_calls[5:]
    assert pip_calls[5].startswith("--require-hashes --no-deps")


def test_a_service_needs_no_development_packages(pip_calls: list[str], tmp_path: Path) -> None:
    install.install(Venv(tmp_path), backend=None, dev=False, editable=False)
    assert pip_calls[1].endswith("runtime.txt")
    assert "-e" not in pip_calls[4].split()


def test_the_models_of_the_tests_are_installed_only_when_asked_for(pip_calls: list[str], tmp_path: Path) -> None:
    install.install(Venv(tmp_path), backend=None, dev=True, editable=True)
    pip_calls.clear()
    install.install(Venv(tmp_path), backend=None, dev=True, editable=True, test_models=True)
    (call,) = pip_calls
    assert call.startswith("--require-hashes --no-deps")
    assert call.endswith("test-models.txt")


def test_a_step_that_failed_is_tried_again(tmp_path: Path) -> None:
    def fail() -> None:
        raise InstallError("broken", "mend it")

    with pytest.raises(InstallError):
        Venv(tmp_path).step("one", "digest", fail)
    done: list[int] = []
    assert Venv(tmp_path).step("one", "digest", lambda: done.append(1))
    assert not Venv(tmp_path).step("one", "digest", lambda: done.append(2))
    assert Venv(tmp_path).step("one", "another digest", lambda: done.append(3))
    assert done == [1, 3]


def test_a_folder_without_a_working_python_has_no_version(tmp_path: Path) -> None:
    venv = Venv(tmp_path)
    assert venv.version() is None
    venv.scripts.mkdir()
    venv.python.write_text("not a program")
    venv.python.chmod(0o755)
    assert venv.version() is None


def test_a_failure_is_one_line_and_a_hint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise InstallError("cmake was not found", "install it")

    monkeypatch.setattr("install.install", fail)
    assert install.main(["--venv", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "error: cmake was not found\n  hint: install it\n"


def test_the_backend_comes_from_the_flag_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    monkeypatch.setattr("install.install", lambda venv, **options: seen.append(options["backend"]))
    monkeypatch.setenv("BACKEND", "vulkan")
    install.main(["--venv", str(tmp_path)])
    install.main(["--venv", str(tmp_path), "--backend", "cpu"])
    monkeypatch.setenv("BACKEND", "")
    install.main(["--venv", str(tmp_path)])
    assert seen == ["vulkan", "cpu", None]


def test_the_installer_starts_with_nothing_but_the_standard_library(tmp_path: Path) -> None:
    command = [sys.executable, "-I", "-S", "-c", f"import sys; sys.path[0:0] = [{str(install.HERE)!r}]; import install"]
    assert subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path).stderr == ""
