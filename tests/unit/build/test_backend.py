"""Which backend llama.cpp is built for."""

from __future__ import annotations

from pathlib import Path

import llama_backend
import pytest
from llama_backend import InstallError, Machine

GPU = "nvidia-smi lists a GPU"


@pytest.mark.parametrize(
    ("machine", "backend", "said"),
    [
        (Machine("Linux", nvcc="/opt/nvcc", nvidia_driver=GPU), "cuda", "/opt/nvcc"),
        (Machine("Linux", nvcc="/opt/nvcc"), "cpu", "no NVIDIA driver"),
        (Machine("Linux", nvidia_driver=GPU), "cpu", "nvcc was not found"),
        (Machine("Linux"), "cpu", "no accelerator"),
        (Machine("Linux", glslc="/bin/glslc", hipconfig="/bin/hipconfig"), "cpu", "no accelerator"),
        (Machine("Windows", nvcc="nvcc.exe", nvidia_driver=GPU), "cuda", "nvcc.exe"),
        (Machine("Darwin"), "metal", "macOS"),
    ],
)
def test_the_machine_decides_and_the_reason_is_given(machine: Machine, backend: str, said: str) -> None:
    choice = llama_backend.choose(machine, None)
    assert choice.backend == backend
    assert said in choice.reason


@pytest.mark.parametrize(
    ("machine", "requested"),
    [
        (Machine("Linux", nvcc="/opt/nvcc"), "cuda"),
        (Machine("Linux", glslc="/bin/glslc"), "vulkan"),
        (Machine("Linux", hipconfig="/bin/hipconfig"), "rocm"),
        (Machine("Darwin"), "cpu"),
    ],
)
def test_a_request_wins_over_the_machine(machine: Machine, requested: str) -> None:
    assert llama_backend.choose(machine, requested).backend == requested


@pytest.mark.parametrize(
    ("requested", "missing"), [("cuda", "nvcc"), ("metal", "macOS"), ("vulkan", "glslc"), ("rocm", "hipconfig")]
)
def test_a_request_whose_tools_are_missing_says_which(requested: str, missing: str) -> None:
    with pytest.raises(InstallError, match=missing) as caught:
        llama_backend.choose(Machine("Linux"), requested)
    assert "BACKEND=cpu" in caught.value.hint


def test_an_unknown_backend_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InstallError, match="opencl") as caught:
        llama_backend.choose(Machine("Linux"), "opencl")
    assert "vulkan" in caught.value.hint


@pytest.mark.parametrize(
    ("backend", "option"),
    [("cuda", "GGML_CUDA"), ("metal", "GGML_METAL"), ("vulkan", "GGML_VULKAN"), ("rocm", "GGML_HIP")],
)
def test_each_backend_turns_on_its_own_option_only(backend: str, option: str) -> None:
    args = llama_backend.cmake_args(backend, Path("/a/llama_cpp.cmake"))
    assert [arg for arg in args if arg.startswith("-DGGML_")] == [f"-D{option}=ON"]


def test_the_cpu_build_is_native_and_unmodified() -> None:
    args = llama_backend.cmake_args("cpu", Path("/a/llama_cpp.cmake"))
    assert not [arg for arg in args if "GGML_" in arg or "FLAGS" in arg]


def test_nvcc_outside_the_path_is_named_to_cmake_unless_the_user_did() -> None:
    machine = Machine("Linux", nvcc="/opt/cuda/bin/nvcc")
    assert llama_backend.build_environ("cuda", machine, {}) == {"CUDACXX": "/opt/cuda/bin/nvcc"}
    assert llama_backend.build_environ("cuda", machine, {"CUDACXX": "mine"}) == {}
    assert llama_backend.build_environ("cpu", machine, {}) == {}


def test_cuda_is_found_through_its_home_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "bin" / "nvcc"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    monkeypatch.setattr(
        "llama_backend.shutil.which", lambda name, path=None: str(tool) if path == str(tool.parent) else None
    )
    assert llama_backend.look({"CUDA_HOME": str(tmp_path)}).nvcc == str(tool)


def test_only_features_of_all_cpus_count() -> None:
    cpuinfo = "processor\t: 0\nflags\t\t: fpu avx2 avx512f\n\nprocessor\t: 1\nflags\t\t: avx2 fpu\n"
    assert llama_backend.features_of(cpuinfo) == "avx2 fpu"
    assert llama_backend.features_of("Features\t: fp asimd sve\n") == "asimd fp sve"
    assert llama_backend.features_of("nothing known\n") == ""


def test_the_cpu_digest_follows_the_features(monkeypatch: pytest.MonkeyPatch) -> None:
    digests = set()
    for features in ("avx2", "avx2 avx512f", "avx2"):
        monkeypatch.setattr("llama_backend._cpu_features", lambda features=features: features)
        digests.add(llama_backend.cpu_digest())
    assert len(digests) == 2
