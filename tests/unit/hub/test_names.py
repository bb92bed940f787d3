from __future__ import annotations

import pytest

from lilliput.errors import BadName, HubError
from lilliput.hub.names import check_commit, check_git_sha1, check_path, check_repo_id, check_revision, check_sha256


@pytest.mark.parametrize("repo_id", ["org/model", "gpt2", "TheBloke/Llama-2-7B-GGUF", "o/n.v1_2", "_x/y"])
def test_repository_ids_of_the_hub_are_accepted(repo_id: str) -> None:
    assert check_repo_id(repo_id) == repo_id


@pytest.mark.parametrize(
    "repo_id",
    [
        "",
        "/",
        "a/b/c",
        "../x",
        "a/..",
        "a--b/c",
        "a/b--c",
        "a b/c",
        "-a/b",
        "a/.b",
        "a/b.",
        "a/b.git",
        "a/b\n",
        "a\\b",
        "a/" + "x" * 97,
    ],
)
def test_other_repository_ids_are_refused(repo_id: str) -> None:
    with pytest.raises(BadName):
        check_repo_id(repo_id)


@pytest.mark.parametrize(
    "path", ["a.gguf", "UD-Q4_K_XL/model-00001-of-00002.gguf", "größe/ü (1).gguf", ".gitattributes", "a..b"]
)
def test_plain_relative_paths_are_accepted(path: str) -> None:
    assert check_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "..",
        "a/../../b",
        "./a",
        "a//b",
        "a/",
        "a\\..\\b",
        "C:/x",
        "a:stream",
        "a\0b",
        "a\nb",
        "a./b",
        "a /b",
        "nul",
        "x/CON.gguf",
        "com1.txt",
        "\ud800",
        "x" * 256,
        "a/" * 600 + "b",
    ],
)
def test_paths_that_could_leave_their_folder_or_mean_a_device_are_refused(path: str) -> None:
    with pytest.raises(BadName):
        check_path(path)


@pytest.mark.parametrize("revision", ["main", "v1.0", "refs/pr/3", "a" * 40])
def test_branches_tags_and_commits_are_accepted(revision: str) -> None:
    assert check_revision(revision) == revision


@pytest.mark.parametrize("revision", ["", "../main", "-x", "a/../b", "main.lock", "a b\n"])
def test_revisions_that_are_no_git_reference_are_refused(revision: str) -> None:
    with pytest.raises(BadName):
        check_revision(revision)


@pytest.mark.parametrize("digest", ["", "a" * 63, "a" * 65, "A" * 64, "../" + "a" * 61, "g" * 64, "a" * 64 + "\n"])
def test_only_64_lower_case_hexadecimal_digits_are_a_sha256(digest: str) -> None:
    with pytest.raises(HubError):
        check_sha256(digest)
    assert check_sha256("0a" * 32) == "0a" * 32


def test_commits_and_git_ids_are_40_hexadecimal_digits() -> None:
    for check in (check_commit, check_git_sha1):
        assert check("ab" * 20) == "ab" * 20
        with pytest.raises(HubError):
            check("main")
