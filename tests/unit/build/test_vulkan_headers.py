"""Headers for the Vulkan backend: which are named to CMake, and what is said where they are missing."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import llama_backend
import llama_wheel
import pytest
import vulkan_headers
from llama_backend import InstallError, Machine

CORE = """
#define VK_HEADER_VERSION {patch}
#define VK_HEADER_VERSION_COMPLETE VK_MAKE_API_VERSION(0, 1, {minor}, VK_HEADER_VERSION)
"""


def headers(prefix: Path, *, new: bool, spirv: bool = True) -> Path:
    """Lay out an installation prefix: Debian 13's versions if new, else Debian 12's."""
    core = prefix / "include" / "vulkan" / "vulkan_core.h"
    core.parent.mkdir(parents=True)
    text = CORE.format(minor=4 if new else 3, patch=309 if new else 239)
    core.write_text(text + ("#define VK_EXT_layer_settings 1\n" if new else ""))
    if spirv:
        (prefix / "share" / "cmake" / "SPIRV-Headers").mkdir(parents=True)
    return prefix


@pytest.fixture
def old(tmp_path: Path) -> tuple[Path, ...]:
    return (tmp_path / "nothing", headers(tmp_path / "system", new=False))


def environ(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"XDG_CACHE_HOME": str(tmp_path / "cache"), **more}


def test_new_system_headers_and_an_sdk_are_left_to_cmake(tmp_path: Path, old: tuple[Path, ...]) -> None:
    system = (headers(tmp_path / "new", new=True),)
    assert vulkan_headers.find(environ(tmp_path), system) is None
    assert vulkan_headers.find(environ(tmp_path), (tmp_path / "nothing",)) is None
    assert vulkan_headers.find(environ(tmp_path, VULKAN_SDK="/opt/sdk"), old) is None


def test_headers_that_are_too_old_are_refused_with_their_version_and_what_fetches_newer_ones(
    tmp_path: Path, old: tuple[Path, ...]
) -> None:
    with pytest.raises(InstallError, match=r"1\.3\.239 .* too old .*VK_EXT_layer_settings") as caught:
        vulkan_headers.find(environ(tmp_path), old)
    assert "python3 config/install/vulkan_headers.py" in caught.value.hint


def test_fetched_headers_stand_in_for_old_ones(tmp_path: Path, old: tuple[Path, ...]) -> None:
    fetched = headers(tmp_path / "cache" / "lilliput" / "vulkan-headers" / "usr", new=True)
    found = vulkan_headers.find(environ(tmp_path), old)
    assert found == vulkan_headers.Headers(fetched, "1.4.309", new_enough=True)
    assert found.cmake_args() == (
        f"-DVulkan_INCLUDE_DIR={fetched.as_posix()}/include",
        f"-DSPIRV-Headers_DIR={fetched.as_posix()}/share/cmake/SPIRV-Headers",
    )


@pytest.mark.parametrize("unpacked", ["", "usr"])
def test_a_folder_can_be_named(tmp_path: Path, old: tuple[Path, ...], unpacked: str) -> None:
    prefix = headers(tmp_path / "mine" / unpacked, new=True, spirv=False)
    found = vulkan_headers.find(environ(tmp_path, VULKAN_HEADERS=str(tmp_path / "mine")), old)
    assert found is not None
    assert found.cmake_args() == (f"-DVulkan_INCLUDE_DIR={prefix.as_posix()}/include",)


def test_a_named_folder_must_hold_new_headers(tmp_path: Path, old: tuple[Path, ...]) -> None:
    with pytest.raises(InstallError, match="has no include/vulkan"):
        vulkan_headers.find(environ(tmp_path, VULKAN_HEADERS=str(tmp_path / "nothing")), old)
    with pytest.raises(InstallError, match="too old"):
        vulkan_headers.find(environ(tmp_path, VULKAN_HEADERS=str(old[1])), old)


def test_the_build_is_named_for_the_headers_version_and_not_for_their_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llama_backend.look", lambda environ: Machine("Linux", glslc="/bin/glslc"))
    monkeypatch.setattr("llama_backend.cpu_digest", lambda: "cpu")
    recipes = [llama_wheel.plan("vulkan", {"VULKAN_HEADERS": str(headers(tmp_path / name, new=True))}) for name in "ab"]
    assert recipes[0].key == recipes[1].key
    assert recipes[0].args != recipes[1].args
    assert recipes[0].args[:-2] == llama_backend.cmake_args("vulkan", llama_wheel.CMAKE_INCLUDE)
    monkeypatch.setattr("vulkan_headers._version", lambda text: "1.4.999")
    newer = llama_wheel.plan("vulkan", {"VULKAN_HEADERS": str(tmp_path / "a")})
    assert newer.key != recipes[0].key


def test_other_backends_do_not_look_for_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vulkan_headers.find", lambda environ: pytest.fail("looked for headers"))
    assert llama_wheel.plan("cpu", {}).choice.backend == "cpu"


def test_the_packages_of_the_software_gpu_that_are_missing_are_named(
    tmp_path: Path, old: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = tmp_path / "icd.d" / "lvp_icd.x86_64.json"
    monkeypatch.setattr("vulkan_headers._DRIVER_FOLDERS", (driver.parent,))
    monkeypatch.setattr("vulkan_headers.shutil.which", lambda name: None)
    nothing = (tmp_path / "nothing",)
    assert vulkan_headers.missing_packages({}, nothing) == ["glslc", "libvulkan-dev", "mesa-vulkan-drivers"]
    monkeypatch.setattr("vulkan_headers.shutil.which", lambda name: f"/bin/{name}")
    assert vulkan_headers.missing_packages({}, old) == ["mesa-vulkan-drivers"]
    driver.parent.mkdir()
    driver.touch()
    assert vulkan_headers.missing_packages({}, old) == []
    new = (headers(tmp_path / "new", new=True, spirv=False),)
    assert vulkan_headers.missing_packages({}, new) == ["spirv-headers"], "new headers are used as they are"
    assert vulkan_headers.missing_packages({"VULKAN_HEADERS": "/mine"}, new) == []


def test_what_is_missing_is_said_in_one_line_with_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vulkan_headers.missing_packages", lambda: ["glslc", "mesa-vulkan-drivers"])
    assert vulkan_headers.main(["--check"]) == 1
    assert capsys.readouterr().err == (
        "error: the software GPU needs packages that are not installed: glslc mesa-vulkan-drivers\n"
        "  hint: as an administrator: apt install glslc mesa-vulkan-drivers\n"
    )


APT = """#!/bin/sh
# Answers as apt does where one archive is configured; the address names no host.
case "$*" in
*indextargets*) printf 'bookworm-security file:/other\\nbookworm file:/archive\\nnot-a-row\\n' ;;
*update*) cat "$APT_CONFIG" sources.list > "$SEEN" ;;
*download*) touch libvulkan-dev.deb spirv-headers.deb ;;
esac
"""
UNPACK = """#!/bin/sh
mkdir -p "$3" && cp -R "$UNPACKED/." "$3/"
"""


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for apt-get and dpkg-deb; returns the file in which apt's configuration is noted."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, text in (("apt-get", APT), ("dpkg-deb", UNPACK)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SEEN", str(tmp_path / "seen"))
    monkeypatch.setenv("UNPACKED", str(tmp_path / "package"))
    return tmp_path / "seen"


@pytest.mark.skipif(os.name == "nt", reason="the stand-ins are shell scripts; Windows has no apt")
def test_headers_are_fetched_from_the_configured_archive_without_touching_the_systems_lists(
    tmp_path: Path, apt: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    headers(tmp_path / "package" / "usr", new=True)
    folder = tmp_path / "kept" / "headers"
    for _ in range(2):
        assert vulkan_headers.main(["--folder", str(folder), "--suite", "forky"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == f"Vulkan headers 1.4.309: {folder / 'usr'}"
    seen = apt.read_text()
    assert "file:/archive forky main" in seen
    assert "/var/lib/apt" not in seen
    assert [path.name for path in folder.parent.iterdir()] == ["headers"], "nothing else is left behind"


@pytest.mark.skipif(os.name == "nt", reason="the stand-ins are shell scripts; Windows has no apt")
def test_packages_with_old_headers_do_not_replace_what_is_there(
    tmp_path: Path, apt: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    headers(tmp_path / "package" / "usr", new=False)
    kept = headers(tmp_path / "headers" / "usr", new=True)
    assert vulkan_headers.main(["--folder", str(kept.parent)]) == 1
    assert "too old" in capsys.readouterr().err
    assert vulkan_headers.read(kept.parent) == vulkan_headers.Headers(kept, "1.4.309", new_enough=True)


def test_a_system_without_apt_is_told_the_other_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vulkan_headers.shutil.which", lambda name: None)
    with pytest.raises(InstallError, match="apt-get was not found") as caught:
        vulkan_headers.fetch(tmp_path / "headers", "trixie")
    assert "VULKAN_HEADERS" in caught.value.hint


def test_a_failing_apt_shows_its_last_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vulkan_headers.shutil.which", lambda name: name)

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        if "indextargets" in command:
            return subprocess.CompletedProcess(command, 0, "bookworm file:/archive\n", "")
        return subprocess.CompletedProcess(command, 100, "", "E: no such suite\n")

    monkeypatch.setattr("vulkan_headers.subprocess.run", run)
    with pytest.raises(InstallError, match=r"(?s)apt-get -qq update failed.*no such suite"):
        vulkan_headers.fetch(tmp_path / "headers", "none")
    assert list(tmp_path.iterdir()) == []
