"""Every option of the daemon, declared once: its default, its form and what it is for.

Later sources go before earlier ones: defaults, the TOML file, environment variables ``LILLIPUT_…``, flags. The
reference ``docs/settings.md`` and the example ``config/lilliput.toml`` are made from this file by
``python -m lilliput.settings .``
"""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import BeforeValidator, Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from lilliput.errors import InvalidRequest
from lilliput.units import MIB, parse_bytes

PREFIX = "LILLIPUT_"
CONFIG_VARIABLE = "LILLIPUT_CONFIG"
OTHER_VARIABLES = frozenset({CONFIG_VARIABLE, "LILLIPUT_BACKEND", "LILLIPUT_WHEEL_CACHE"})
"""Variables that are no settings of the daemon: the TOML file's path, and what the installation reads."""


def _bytes(value: object) -> object:
    return parse_bytes(value) if isinstance(value, str) else value


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _groups(value: object) -> object:
    if not isinstance(value, str):
        return value
    groups = ([name.strip() for name in group.split(",") if name.strip()] for group in value.split(";"))
    return [group for group in groups if group]


def _expanded(value: object) -> object:
    return Path(value).expanduser() if isinstance(value, str | Path) else value


Bytes = Annotated[int, BeforeValidator(_bytes), Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Directory = Annotated[Path, BeforeValidator(_expanded)]
Switch = Annotated[Literal["on", "off"], BeforeValidator(_lower)]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], BeforeValidator(_lower)]
Speculation = Annotated[Literal["auto", "off"], BeforeValidator(_lower)]
Measure = Annotated[Literal["idle", "never"], BeforeValidator(_lower)]
LogFormat = Annotated[Literal["text", "json"], BeforeValidator(_lower)]
_SIZE = 'a size such as 600MiB, "8 GB" or a number of bytes'


def _option(default: Any, description: str, form: str, *, shown: str | None = None) -> Any:
    """One option; ``form`` says what a value must be, ``shown`` is the default as documents write it."""
    extra: dict[str, Any] = {"form": form, "shown": shown}
    if callable(default):
        return Field(default_factory=default, description=description, json_schema_extra=extra)
    return Field(default, description=description, json_schema_extra=extra)


def _default_data_dir() -> Path:
    return platformdirs.user_data_path("lilliput", appauthor=False)


class Settings(BaseSettings):
    """The options of one daemon. Keyword arguments are flags; what is not given comes from environment and TOML file.

    Use ``load_settings``, which explains what is wrong. Sizes are in bytes, durations in seconds.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    host: Annotated[str, Field(min_length=1)] = _option(
        "127.0.0.1", "Address to listen on; 0.0.0.0 lets other machines in.", "an address or host name"
    )
    port: Annotated[int, Field(ge=0, le=65535)] = _option(
        1726, "Port to listen on; 0 takes any free one.", "a whole number from 0 to 65535"
    )
    data_dir: Directory = _option(
        _default_data_dir,
        "Where the list of models, the jobs and what was measured are kept.",
        "a directory",
        shown="the user's data directory",
    )
    context_tokens: Annotated[int, Field(ge=256)] = _option(
        8192,
        "Tokens of context that all requests to a model share, if the model was trained for so many.",
        "a whole number of at least 256",
    )
    slots: Annotated[int, Field(ge=1, le=256)] = _option(
        8, "Requests to one model that are worked on at the same time.", "a whole number from 1 to 256"
    )
    keep_alive_s: Annotated[float, Field(ge=-1, allow_inf_nan=False)] = _option(
        300.0,
        "How long an unused model stays loaded; 0 unloads it at once, -1 keeps it.",
        "a number of seconds, or -1",
    )
    stall_s: Annotated[float, Field(ge=1, allow_inf_nan=False)] = _option(
        30.0,
        "How long an engine that owes an answer may show no sign of life before it is ended.",
        "a number of seconds, at least 1",
    )
    memory_limit: Bytes | None = _option(None, "The most system memory that models may use.", _SIZE, shown="no limit")
    memory_reserve: Bytes = _option(512 * MIB, "Available memory that is left to others.", _SIZE, shown="512MiB")
    memory_use_fraction: Annotated[float, Field(gt=0, le=1)] = _option(
        0.8, "The largest part of all memory that models may use.", "a number above 0, at most 1"
    )
    memory_watch: Switch = _option(
        "on",
        "Whether memory is watched while models serve: where it is short, kept prompts, idle models and parts of busy "
        "ones are given back.",
        "on or off",
    )
    vram_limit: Bytes | None = _option(
        None, "The most memory of each accelerator that models may use.", _SIZE, shown="no limit"
    )
    vram_reserve: Bytes = _option(
        256 * MIB, "Free memory of each accelerator that is left to others.", _SIZE, shown="256MiB"
    )
    vram_use_fraction: Annotated[float, Field(gt=0, le=1)] = _option(
        0.95, "The largest part of an accelerator's memory that models may use.", "a number above 0, at most 1"
    )
    measure: Measure = _option(
        "idle",
        "When this machine's speed is measured for plans, with small generated models of each tensor type in use.",
        "idle (when no model has computed for some seconds) or never",
    )
    queue_limit: Count = _option(
        64, "Requests that may wait for one model; more are refused.", "a whole number of at least 1"
    )
    caller_limit: Count | None = _option(
        None,
        "Requests of one caller (an API key, or else an address) that may run or wait at one model; more are refused.",
        "a whole number of at least 1",
        shown="all places while nobody else wants one, an equal part otherwise",
    )
    request_timeout_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = _option(
        None,
        "Time after which requests fail that set themselves none by `X-Request-Timeout` or `deadline_s`.",
        "a number of seconds above 0",
        shown="no limit",
    )
    exclusive_groups: Annotated[tuple[tuple[str, ...], ...], NoDecode, BeforeValidator(_groups)] = _option(
        (),
        "Groups of models of which one at a time may be in memory; a name stands for its variants. A variable has `;` "
        "between groups and `,` between models.",
        "a list of lists of names of models",
        shown="none",
    )
    gap_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = _option(
        0.1,
        "How long a new prompt may keep running streams waiting for their next token, if a step alone takes less.",
        "a number of seconds above 0",
    )
    prefix_store: Bytes = _option(
        256 * MIB,
        "Memory for prompts that had to leave a model's KV cache, so that they are not computed again; 0 keeps none.",
        _SIZE,
        shown="256MiB",
    )
    prefix_disk: Bytes = _option(
        0,
        "Disk in the data directory for the same prompts, so that they survive a restart; they can be read from these "
        "files. 0 keeps none.",
        _SIZE,
        shown="0",
    )
    threads: Count | None = _option(
        None,
        "Threads that compute for one model.",
        "a whole number of at least 1",
        shown="the physical cores that may be used",
    )
    speculation: Speculation = _option(
        "auto",
        "Whether tokens are drafted, from what was said before or by a draft model, where that is faster; a request "
        "may say otherwise.",
        "auto or off",
    )
    pull_parallelism: Annotated[int, Field(ge=1, le=16)] = _option(
        2, "Downloads that run at the same time; more wait.", "a whole number from 1 to 16"
    )
    verify_parallelism: Annotated[int, Field(ge=1, le=16)] = _option(
        1, "Verifications that run at the same time; more wait.", "a whole number from 1 to 16"
    )
    drain_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = _option(
        10.0, "How long running requests may go on when the daemon is told to stop.", "a number of seconds"
    )
    log_level: LogLevel = _option(
        "info", "The least important messages that are logged.", "debug, info, warning or error"
    )
    log_format: LogFormat = _option(
        "text", "How messages are written: for people, or one JSON object a line.", "text or json"
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic calls it by this name
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then environment, then the TOML file."""
        return init_settings, env_settings, InitSettingsSource(settings_cls, read_config_file())


def load_settings(**flags: Any) -> Settings:
    """The settings; a flag of None counts as not given.

    Raises InvalidRequest that names the flag, variable or key at fault, what it must be, or what was probably meant.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    variables = [name.upper() for name in os.environ if name.upper().startswith(PREFIX)]
    settings = [name.removeprefix(PREFIX).lower() for name in variables if name not in OTHER_VARIABLES]
    _check_names(given, "the flag {}", _flag)
    _check_names(settings, "the variable {}", _variable)
    _check_names(read_config_file(), f"the key {{}} in {config_path()}", str)
    try:
        return Settings(**given)
    except ValidationError as error:
        faults = [_fault(str(one["loc"][0]), one["input"], given) for one in error.errors() if one["loc"]]
        raise InvalidRequest("; ".join(dict.fromkeys(faults)), hint="docs/settings.md lists all settings") from None


def config_path() -> Path:
    """The TOML file: ``LILLIPUT_CONFIG``, else ``lilliput.toml`` in the user's configuration directory."""
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named).expanduser()
    return platformdirs.user_config_path("lilliput", appauthor=False) / "lilliput.toml"


def read_config_file() -> dict[str, Any]:
    """What the TOML file says; empty when there is none.

    Raises InvalidRequest when it is no TOML, cannot be read, or was named but is missing.
    """
    path = config_path()
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if os.environ.get(CONFIG_VARIABLE):
            raise InvalidRequest(f"{CONFIG_VARIABLE} names {path}, which does not exist", hint="correct it") from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        hint = f"correct it, or name another by {CONFIG_VARIABLE}"
        raise InvalidRequest(f"cannot read {path}: {error}", hint=hint) from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidRequest(f"{path} is not TOML: {error}", hint="correct the line it names") from None


def _check_names(names: Iterable[str], what: str, spell: Callable[[str], str]) -> None:
    """Refuse names that are no settings, with the setting that was probably meant."""
    for name in names:
        if name not in Settings.model_fields:
            near = get_close_matches(name, Settings.model_fields, n=1, cutoff=0.5)
            hint = f"did you mean {spell(near[0])}?" if near else "docs/settings.md lists all settings"
            raise InvalidRequest(f"{what.replace('{}', spell(name))} is not known", hint=hint)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def _fault(name: str, value: object, flags: Mapping[str, object]) -> str:
    """Which source gave the bad value, and what it must be."""
    field = Settings.model_fields[name]
    if name in flags:
        origin = _flag(name)
    elif os.environ.get(_variable(name)):
        origin = _variable(name)
    else:
        origin = f"{name} in {config_path()}"
    return f"{origin} is {value!r}, but must be {_extra(field, 'form')}"


def _extra(field: FieldInfo, key: str) -> str | None:
    extra = field.json_schema_extra
    value = extra.get(key) if isinstance(extra, dict) else None
    return value if isinstance(value, str) else None


def reference() -> str:
    """The text of ``docs/settings.md``."""
    rows = [
        f"| `{name}` | `{_variable(name)}` | {_shown_default(field)} | {_extra(field, 'form')} | {field.description} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(
        [
            "# Settings",
            "",
            "Every setting can be given as a key of the TOML file, as an environment variable, and some as a flag of",
            "`lilliput serve`. Flags go before variables, variables before the file, the file before the defaults. An",
            "empty variable counts as not set. A name that is not in this table is an error.",
            "",
            f"The file is `lilliput.toml` in the user's configuration directory, or what `{CONFIG_VARIABLE}` names.",
            "`config/lilliput.toml` is an example with all defaults. `LILLIPUT_HOST` and `LILLIPUT_PORT` also tell the",
            "client where the daemon is.",
            "",
            "| key | variable | default | form | meaning |",
            "|---|---|---|---|---|",
            *rows,
            "",
            "This table is made from `server/lilliput/settings.py` by `python -m lilliput.settings .`",
            "",
        ]
    )


def example() -> str:
    """The text of ``config/lilliput.toml``: every key, commented out, with its default."""
    lines = [
        "# All settings of the daemon with their defaults. Copy this file to lilliput.toml in the user's configuration",
        f"# directory, or name it by {CONFIG_VARIABLE}, and remove the # before what should differ.",
        "# Made from server/lilliput/settings.py by `python -m lilliput.settings .`",
    ]
    for name, field in Settings.model_fields.items():
        shown = _extra(field, "shown")
        note = f" Default: {shown}." if shown else ""
        lines += ["", f"# {field.description}{note}", f"# Form: {_extra(field, 'form')}."]
        lines.append(f"# {name} = {_example_value(name, field)}")
    return "\n".join([*lines, ""])


_EXAMPLES = {
    "data_dir": '"/srv/lilliput"',
    "memory_limit": '"16GiB"',
    "threads": "8",
    "vram_limit": '"8GiB"',
    "caller_limit": "16",
    "request_timeout_s": "600",
    "exclusive_groups": '[["llama3.1:8b", "qwen2.5:7b"]]',
}


def _example_value(name: str, field: FieldInfo) -> str:
    if name in _EXAMPLES:
        return _EXAMPLES[name]
    value = _extra(field, "shown") or field.default
    return f'"{value}"' if isinstance(value, str) else str(value)


def _shown_default(field: FieldInfo) -> str:
    return _extra(field, "shown") or f"`{field.default}`"


def write_documents(root: Path) -> None:
    """Write the reference and the example below the checkout's ``root``."""
    (root / "docs" / "settings.md").write_text(reference(), encoding="utf-8")
    (root / "config" / "lilliput.toml").write_text(example(), encoding="utf-8")


if __name__ == "__main__":
    write_documents(Path(sys.argv[1]))
