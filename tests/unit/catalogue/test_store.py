"""The store keeps what it acknowledged, whatever happens to the process, and refuses files it cannot trust."""

from __future__ import annotations

import dataclasses
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from lilliput.catalogue import DataDirectoryLock, InstalledFile, InstalledModel, Store, StoredJob
from lilliput.catalogue import migrations as shipped
from lilliput.catalogue.schema import METADATA, SCHEMA_REVISION
from lilliput.errors import StorageError


def model(name: str = "llama3.1:8b-q4_k_m", **changes: object) -> InstalledModel:
    whole = InstalledModel(
        name=name,
        source="hub",
        files=(
            InstalledFile(Path("/cache/a-00001-of-00002.gguf"), 7_000_000_000, "ab" * 32),
            InstalledFile(Path("/cache/a-00002-of-00002.gguf"), 3_000_000_000, None),
        ),
        repo="org/repo",
        revision="c" * 40,
        quantization="Q4_K_M",
        architecture="llama",
        context_length=131_072,
        parameter_count=8_000_000_000,
        license="apache-2.0",
        installed_at=1_700_000_000.5,
    )
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "data")
    opened.open()
    yield opened
    opened.close()


def test_a_model_comes_back_exactly_as_it_was_added(store: Store) -> None:
    store.add(model())
    store.close()
    store.open()
    assert store.get("llama3.1:8b-q4_k_m") == model()
    assert store.installed() == (model(),)


def test_names_are_compared_without_case_and_shown_as_given(store: Store) -> None:
    store.add(model("Org/Repo:Q4_K_M"))
    found = store.get("org/repo:q4_k_m")
    assert found is not None
    assert found.name == "Org/Repo:Q4_K_M"


def test_adding_the_same_name_replaces_model_and_files(store: Store) -> None:
    store.add(model("A"))
    store.add(model("a", files=(InstalledFile(Path("/other.gguf"), 5),)))
    (only,) = store.installed()
    assert only.name == "a"
    assert only.files == (InstalledFile(Path("/other.gguf"), 5),)


def test_an_add_that_fails_halfway_leaves_the_former_model_whole(store: Store) -> None:
    store.add(model())
    broken = model(files=(InstalledFile(Path("/new.gguf"), 1), InstalledFile(Path("/bad.gguf"), None)))  # type: ignore[arg-type]
    with pytest.raises(StorageError):
        store.add(broken)
    assert store.get(model().name) == model()


def test_remove_returns_what_was_removed_and_takes_the_files_along(store: Store) -> None:
    store.add(model())
    assert store.remove("LLAMA3.1:8B-Q4_K_M") == model()
    assert store.remove("llama3.1:8b-q4_k_m") is None
    with sqlite3.connect(store.path) as raw:
        assert raw.execute("SELECT count(*) FROM model_file").fetchone() == (0,)
    raw.close()


def test_find_filters_installed_models(store: Store) -> None:
    store.add(model("a", repo="org/one"))
    store.add(model("b", repo="org/two"))
    assert [found.name for found in store.find(lambda known: known.repo == "org/two")] == ["b"]


def test_jobs_are_saved_updated_listed_oldest_first_and_deleted(store: Store) -> None:
    second = StoredJob("job-2", "pull", "queued", 20.0, 20.0, {"model": "x"})
    first = StoredJob("job-1", "pull", "running", 10.0, 11.0, {"message": "größer", "result": {"files": [1, 2]}})
    store.save_job(second)
    store.save_job(first)
    assert store.load_jobs() == (first, second)
    done = dataclasses.replace(first, state="done", updated_at=30.0, body={})
    store.save_job(done)
    assert store.load_jobs() == (done, second)
    store.delete_jobs(["job-2", "job-unknown"])
    assert store.load_jobs() == (done,)


def test_facts_are_remembered_replaced_and_forgotten(store: Store) -> None:
    assert store.get_fact("verdict") is None
    store.set_fact("verdict", "safe")
    store.set_fact("verdict", "unsafe")
    assert store.get_fact("verdict") == "unsafe"
    store.set_fact("verdict", None)
    assert store.get_fact("verdict") is None


def test_threads_may_write_at_the_same_time(store: Store) -> None:
    def add(index: int) -> None:
        for step in range(5):
            store.add(model(f"model-{index}-{step}"))

    threads = [threading.Thread(target=add, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store.installed()) == 20


def test_every_commit_is_synced_to_disk(store: Store) -> None:
    with store._database.connection() as connection:
        values = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys")
        ]
    assert values == ["wal", 2, 1]


def scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", shipped.__path__[0])
    return ScriptDirectory.from_config(config)


def test_the_constant_revision_is_the_newest_script() -> None:
    assert scripts().get_heads() == [SCHEMA_REVISION]


def test_migrations_build_exactly_the_tables_in_code(store: Store) -> None:
    with store._database.connection() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == SCHEMA_REVISION


def test_downgrading_every_migration_leaves_nothing_behind(store: Store) -> None:
    from alembic import command

    config = Config()
    config.set_main_option("script_location", shipped.__path__[0])
    with store._database.connection(writes=True) as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        left = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars().all()
    assert left == ["alembic_version"]


def test_opening_at_the_newest_revision_does_not_import_alembic(store: Store) -> None:
    program = (
        "import sys, pathlib\n"
        "from lilliput.catalogue import Store\n"
        "store = Store(pathlib.Path(sys.argv[1])); store.open(); store.close()\n"
        "assert not [name for name in sys.modules if name.startswith('alembic')]\n"
    )
    store.close()
    ended = subprocess.run([sys.executable, "-c", program, str(store.path.parent)], check=True)
    assert ended.returncode == 0


def test_a_database_of_a_newer_version_is_refused_and_left_alone(store: Store) -> None:
    store.add(model())
    with store._database.connection(writes=True) as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    store.close()
    with pytest.raises(StorageError, match=r"newer lilliput \(schema 9999\)") as caught:
        store.open()
    assert str(store.path) in caught.value.message
    assert "upgrade" in (caught.value.hint or "")


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.path.write_bytes(b"certainly not a database " * 1000)
    with pytest.raises(StorageError, match="damaged") as caught:
        store.open()
    assert str(store.path) in caught.value.message
    assert caught.value.hint


def test_damaged_pages_are_noticed_when_opening(store: Store) -> None:
    for index in range(200):
        store.add(model(f"model-{index}"))
    store.close()
    data = bytearray(store.path.read_bytes())
    data[8192 : 8192 + 20_000] = b"\xa5" * 20_000
    store.path.write_bytes(data)
    with pytest.raises(StorageError, match="damaged"):
        store.open()


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    raw = sqlite3.connect(store.path)
    raw.execute("CREATE TABLE bookmark (url TEXT)")
    raw.commit()
    raw.close()
    with pytest.raises(StorageError, match="not one of lilliput"):
        store.open()


def test_a_data_directory_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be made"):
        Store(tmp_path / "file" / "data").open()


def test_using_a_closed_store_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="not open"):
        Store(tmp_path).installed()


WRITER = """
import pathlib, sys
from lilliput.catalogue import InstalledFile, InstalledModel, Store, StoredJob
store = Store(pathlib.Path(sys.argv[1]))
store.open()
for index in range(10_000):
    store.add(InstalledModel(f"model-{index}", "file", (InstalledFile(pathlib.Path(f"/m/{index}.gguf"), index),)))
    store.save_job(StoredJob(f"job-{index}", "pull", "queued", index, index, {}))
    print(index, flush=True)
"""


def test_a_killed_process_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) == 25:
            break
    child.kill()
    last = 25 + len(child.stdout.readlines())
    child.stdout.close()
    child.wait()
    store = Store(tmp_path)
    store.open()
    names = {installed.name for installed in store.installed()}
    assert {f"model-{index}" for index in range(last + 1)} <= names
    assert all(len(installed.files) == 1 for installed in store.installed())
    assert {f"job-{index}" for index in range(last + 1)} <= {job.id for job in store.load_jobs()}
    store.close()


HOLDER = """
import pathlib, sys
from lilliput.catalogue import DataDirectoryLock
lock = DataDirectoryLock(pathlib.Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_daemon_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    child = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdin is not None
    assert child.stdout.readline() == "held\n"
    with pytest.raises(StorageError, match="already uses") as caught:
        DataDirectoryLock(directory).acquire()
    assert "LILLIPUT_DATA_DIR" in (caught.value.hint or "")
    child.kill()
    child.wait()
    child.stdin.close()
    child.stdout.close()
    with DataDirectoryLock(directory):
        pass


def test_a_directory_that_cannot_be_locked_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be locked"):
        DataDirectoryLock(tmp_path / "file" / "data").acquire()


def test_facts_are_found_by_the_beginning_of_their_key(store: Store) -> None:
    for key in ("a:1", "a:2", "A:3", "a%4", "b:a:"):
        store.set_fact(key, key)
    assert store.find_facts("a:") == {"a:1": "a:1", "a:2": "a:2"}
    assert store.find_facts("a%") == {"a%4": "a%4"}
