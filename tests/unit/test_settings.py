from __future__ import annotations

import os
import tomllib
from pathlib import Path

import platformdirs
import pytest

from lilliput.errors import InvalidRequest
from lilliput.settings import Settings, config_path, example, load_settings, reference, write_documents
from lilliput.units import GIB, MIB

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _no_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variables and no file of the machine that runs the tests."""
    for name in [name for name in os.environ if name.upper().startswith("LILLIPUT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(platformdirs, "user_config_path", lambda *_a, **_k: tmp_path / "config")


@pytest.fixture
def toml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "lilliput.toml"
    monkeypatch.setenv("LILLIPUT_CONFIG", str(path))
    return path


def refused(**flags: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        load_settings(**flags)
    return caught.value


def test_the_defaults_serve_this_machine_only() -> None:
    settings = load_settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 1726)
    assert (settings.context_tokens, settings.slots, settings.keep_alive_s) == (8192, 8, 300.0)
    assert (settings.memory_limit, settings.memory_reserve, settings.memory_use_fraction) == (None, 512 * MIB, 0.8)
    assert (settings.vram_limit, settings.vram_reserve, settings.vram_use_fraction) == (None, 256 * MIB, 0.95)
    assert settings.threads is None
    assert settings.data_dir == platformdirs.user_data_path("lilliput", appauthor=False)


def test_later_sources_go_before_earlier_ones(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toml.write_text("port = 1000\nslots = 2\nqueue_limit = 5\n")
    monkeypatch.setenv("LILLIPUT_PORT", "2000")
    monkeypatch.setenv("LILLIPUT_SLOTS", "3")
    settings = load_settings(port=3000, host=None)
    assert (settings.port, settings.slots, settings.queue_limit, settings.host) == (3000, 3, 5, "127.0.0.1")


def test_an_empty_variable_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LILLIPUT_PORT", "")
    monkeypatch.setenv("LILLIPUT_MEMORY_LIMIT", "")
    monkeypatch.setenv("LILLIPUT_CONFIG", "")
    settings = load_settings()
    assert (settings.port, settings.memory_limit) == (1726, None)


@pytest.mark.parametrize(("text", "size"), [("600MiB", 600 * MIB), ("1048576", MIB), ("2 GiB", 2 * GIB), ("0", 0)])
def test_sizes_are_read_as_people_write_them(monkeypatch: pytest.MonkeyPatch, text: str, size: int) -> None:
    monkeypatch.setenv("LILLIPUT_MEMORY_LIMIT", text)
    monkeypatch.setenv("LILLIPUT_MEMORY_RESERVE", text)
    settings = load_settings()
    assert settings.memory_limit == settings.memory_reserve == size


def test_sizes_in_the_file_may_be_numbers_or_text(toml: Path) -> None:
    toml.write_text('memory_limit = 1048576\nmemory_reserve = "1GiB"\n')
    settings = load_settings()
    assert (settings.memory_limit, settings.memory_reserve) == (MIB, GIB)


def test_the_data_directory_may_begin_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LILLIPUT_DATA_DIR", "~/models")
    assert load_settings().data_dir == Path.home() / "models"


def test_letter_case_of_choices_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LILLIPUT_LOG_LEVEL", "DEBUG")
    assert load_settings(log_format="JSON").log_level == "debug"


@pytest.mark.parametrize(
    ("variable", "value", "form"),
    [
        ("LILLIPUT_PORT", "http", "a whole number from 0 to 65535"),
        ("LILLIPUT_PORT", "70000", "a whole number from 0 to 65535"),
        ("LILLIPUT_MEMORY_LIMIT", "lots", "a size such as 600MiB"),
        ("LILLIPUT_MEMORY_USE_FRACTION", "1.5", "a number above 0, at most 1"),
        ("LILLIPUT_LOG_LEVEL", "loud", "debug, info, warning or error"),
        ("LILLIPUT_THREADS", "0", "a whole number of at least 1"),
    ],
)
def test_a_bad_value_names_its_variable_and_the_form(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, form: str
) -> None:
    monkeypatch.setenv(variable, value)
    assert refused().message.startswith(f"{variable} is '{value}', but must be {form}")


def test_a_bad_value_names_the_flag_or_the_file(toml: Path) -> None:
    toml.write_text("")
    assert refused(queue_limit=0).message == "--queue-limit is 0, but must be a whole number of at least 1"
    toml.write_text('slots = "many"\n')
    assert refused().message == f"slots in {toml} is 'many', but must be a whole number from 1 to 256"


def test_all_faults_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LILLIPUT_PORT", "x")
    message = refused(slots=0).message
    assert "LILLIPUT_PORT is 'x'" in message
    assert "--slots is 0" in message


def test_a_misspelt_variable_is_an_error_with_what_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LILLIPUT_PROT", "80")
    error = refused()
    assert error.message == "the variable LILLIPUT_PROT is not known"
    assert error.hint == "did you mean LILLIPUT_PORT?"


def test_a_misspelt_key_is_an_error_with_what_was_meant(toml: Path) -> None:
    toml.write_text("kepalive_s = 5\n")
    error = refused()
    assert error.message == f"the key kepalive_s in {toml} is not known"
    assert error.hint == "did you mean keep_alive_s?"


def test_a_name_like_none_points_to_the_list(toml: Path) -> None:
    toml.write_text("[xyzzy]\nqqq = 1\n")
    assert refused().hint == "docs/settings.md lists all settings"


def test_an_unknown_flag_is_an_error() -> None:
    assert refused(prot=80).hint == "did you mean --port?"


def test_variables_of_the_installation_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LILLIPUT_BACKEND", "cpu")
    assert load_settings().port == 1726


def test_a_named_file_must_exist_and_be_toml(toml: Path) -> None:
    assert refused().message == f"LILLIPUT_CONFIG names {toml}, which does not exist"
    toml.write_text("port = = 1\n")
    assert refused().message.startswith(f"{toml} is not TOML: ")
    toml.unlink()
    toml.mkdir()
    assert refused().message.startswith(f"cannot read {toml}: ")


def test_the_usual_file_may_be_missing_and_is_read_when_there(tmp_path: Path) -> None:
    assert config_path() == tmp_path / "config" / "lilliput.toml"
    assert load_settings().port == 1726
    config_path().parent.mkdir()
    config_path().write_text("port = 99\n")
    assert load_settings().port == 99


def test_settings_cannot_be_changed() -> None:
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.port = 1


def test_the_documents_in_the_checkout_are_up_to_date() -> None:
    assert (ROOT / "docs" / "settings.md").read_text(encoding="utf-8") == reference()
    assert (ROOT / "config" / "lilliput.toml").read_text(encoding="utf-8") == example()


def test_every_setting_is_documented(tmp_path: Path) -> None:
    for name, field in Settings.model_fields.items():
        assert field.description
        assert f"| `{name}` | `LILLIPUT_{name.upper()}` |" in reference()
    (tmp_path / "docs").mkdir()
    (tmp_path / "config").mkdir()
    write_documents(tmp_path)
    assert (tmp_path / "docs" / "settings.md").read_text(encoding="utf-8") == reference()


def test_the_example_is_valid_when_every_line_is_used(toml: Path) -> None:
    keys = tuple(Settings.model_fields)
    lines = [line[2:] for line in example().splitlines() if line.startswith(tuple(f"# {key} = " for key in keys))]
    assert tuple(tomllib.loads("\n".join(lines))) == keys
    toml.write_text("\n".join(lines))
    settings = load_settings()
    assert (settings.memory_limit, settings.memory_reserve, settings.threads) == (16 * GIB, 512 * MIB, 8)
    assert (settings.vram_limit, settings.vram_reserve) == (8 * GIB, 256 * MIB)


@pytest.mark.parametrize("text", ["a, b ;c,org/d:Q4_0;", "a,b;;c , org/d:Q4_0"])
def test_groups_are_written_with_commas_and_semicolons_or_as_lists(
    toml: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    groups = (("a", "b"), ("c", "org/d:Q4_0"))
    toml.write_text('exclusive_groups = [["a", "b"], ["c", "org/d:Q4_0"]]', encoding="utf-8")
    assert load_settings().exclusive_groups == groups
    monkeypatch.setenv("LILLIPUT_EXCLUSIVE_GROUPS", text)
    toml.write_text("", encoding="utf-8")
    assert load_settings().exclusive_groups == groups
