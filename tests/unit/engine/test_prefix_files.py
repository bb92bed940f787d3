from __future__ import annotations

import os
from pathlib import Path

from lilliput.engine.prefix_files import PrefixFiles, file_identity
from lilliput.engine.prefix_store import PrefixStore


def keep(files: PrefixFiles, *states: tuple[list[int], bytes]) -> None:
    for tokens, state in states:
        files.keep(tokens, state)
        files.close()


def loaded(files: PrefixFiles, most_bytes: int = 10_000) -> list[tuple[list[int], bytes]]:
    return [(tokens, bytes(state)) for tokens, state in files.load(most_bytes)]


def states_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.state"), key=lambda path: path.stat().st_mtime_ns)


def test_states_come_back_as_they_were_for_the_same_key_only(tmp_path: Path) -> None:
    states = [([1, 2, 3], b"one"), ([1, 2, 49_000], bytes(1000))]
    keep(PrefixFiles(tmp_path, b"key", 10_000), *states)
    assert loaded(PrefixFiles(tmp_path, b"key", 10_000)) == states
    assert loaded(PrefixFiles(tmp_path, b"other", 10_000)) == []
    assert not list(tmp_path.rglob("*.part"))


def test_a_state_that_was_moved_or_damaged_is_never_given_back(tmp_path: Path) -> None:
    keep(PrefixFiles(tmp_path, b"other", 10_000), ([5, 6], b"foreign"))
    keep(PrefixFiles(tmp_path, b"key", 10_000), ([1, 2], b"good"), ([3, 4], b"flipped"), ([5], b"short"))
    foreign, good, flipped, short = states_in(tmp_path)
    foreign.replace(good.with_name("moved.state"))
    data = bytearray(flipped.read_bytes())
    data[-1] ^= 1
    flipped.write_bytes(data)
    os.truncate(short, 20)
    assert loaded(PrefixFiles(tmp_path, b"key", 10_000)) == [([1, 2], b"good")]
    assert states_in(tmp_path) == [good]


def test_the_limit_holds_over_all_models_and_what_was_used_longest_ago_goes(tmp_path: Path) -> None:
    keep(PrefixFiles(tmp_path, b"one", 3000), ([1], bytes(1000)))
    files = PrefixFiles(tmp_path, b"two", 3000)
    keep(files, ([2], bytes(1000)), ([3], bytes(1000)), ([2], bytes(1000)), ([4], bytes(1000)), ([5], bytes(9000)))
    assert [tokens for tokens, _ in loaded(files)] == [[2], [4]]
    assert loaded(PrefixFiles(tmp_path, b"one", 3000)) == []
    assert sum(path.stat().st_size for path in states_in(tmp_path)) <= 3000


def test_no_more_is_loaded_than_there_is_room_for(tmp_path: Path) -> None:
    files = PrefixFiles(tmp_path, b"key", 10_000)
    keep(files, ([1], bytes(1000)), ([2], bytes(1000)))
    assert [tokens for tokens, _ in loaded(files, 1500)] == [[2]]


def test_what_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    files = PrefixFiles(tmp_path / "file", b"key", 10_000)
    keep(files, ([1], b"x"), ([2], b"y"))
    assert loaded(files) == []


def test_a_store_tells_its_shelf_what_comes_in_and_what_is_used(tmp_path: Path) -> None:
    files = PrefixFiles(tmp_path, b"key", 10_000)
    store = PrefixStore(1000, files)
    for token in (1, 2):
        store.put([token, 7], b"state")
        files.close()
    found, _ = store.best([1, 7], whole=False)
    assert found is not None
    store.touch(found)
    files.close()
    assert [tokens for tokens, _ in loaded(files)] == [[2, 7], [1, 7]]


def test_a_file_is_told_from_one_that_takes_its_place(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"weights")
    before = file_identity(path)
    assert file_identity(path) == before
    status = path.stat()
    path.write_bytes(b"Weights")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file_identity(path) != before


def test_a_state_that_somebody_removes_meanwhile_is_passed_over(tmp_path: Path) -> None:
    keep(PrefixFiles(tmp_path, b"key", 10_000), ([1], b"first"), ([2], b"second"))
    loading = PrefixFiles(tmp_path, b"key", 10_000).load(10_000)
    assert next(loading)[0] == [1]
    states_in(tmp_path)[1].unlink()
    assert list(loading) == []
