"""What the lock files and the Makefile promise."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
LOCKS = sorted((ROOT / "config" / "install" / "locks").glob("*.txt"))
PIN = re.compile(r"^([a-z0-9-]+)==([^ ]+?)(?: ; .+?)? \\$")
HASH = re.compile(r"^    --hash=sha256:[0-9a-f]{64}(?: \\)?$")


def pins(name: str) -> set[tuple[str, str]]:
    text = (ROOT / "config" / "install" / "locks" / f"{name}.txt").read_text()
    return {(found[1], found[2]) for line in text.splitlines() if (found := PIN.match(line))}


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=;, ]", requirement)[0].lower() for requirement in requirements}


def test_every_lock_is_there() -> None:
    assert [path.stem for path in LOCKS] == ["build", "dev", "llama", "model", "nvidia", "runtime", "test-models"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_a_lock_has_pins_with_hashes_and_nothing_else(lock: Path) -> None:
    lines = lock.read_text().splitlines()
    assert [line for line in lines if not PIN.match(line) and not HASH.match(line)] == []
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if PIN.match(line):
            assert HASH.match(after), f"{line} has no hash"


def test_development_has_all_that_a_service_has_in_the_same_versions() -> None:
    assert pins("runtime") < pins("dev")


def test_all_python_versions_get_the_same_packages() -> None:
    assert all(len(dict(pins(lock.stem))) == len(pins(lock.stem)) for lock in LOCKS)


def test_the_locks_hold_what_the_project_asks_for() -> None:
    declared = project()
    assert names(declared["project"]["dependencies"]) - {"llama-cpp-python"} <= dict(pins("runtime")).keys()
    for group in ("dev", "build", "model", "test-models"):
        assert names(declared["dependency-groups"][group]) <= dict(pins(group)).keys()
    assert names(declared["project"]["optional-dependencies"]["nvidia"]) == dict(pins("nvidia")).keys()
    assert [f"{name}=={version}" for name, version in pins("llama")] == [
        line for line in declared["project"]["dependencies"] if line.startswith("llama-cpp-python")
    ]


def test_llama_cpp_is_never_built_by_a_plain_install() -> None:
    assert all("llama-cpp-python" not in dict(pins(name)) for name in ("runtime", "dev", "build", "model"))


def test_every_make_target_is_explained() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony is not None
    assert set(phony[1].split()) == set(re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE))


def test_every_shipped_file_is_in_the_wheel() -> None:
    config = ROOT / "config"
    files = {
        path.relative_to(ROOT).as_posix()
        for path in config.rglob("*")
        if path.is_file() and path.relative_to(config).parts[0] != "install"
    }
    packed = project()["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert packed == {file: file.replace("config/", "lilliput/shipped/", 1) for file in files}
