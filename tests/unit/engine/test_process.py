from __future__ import annotations

import signal

from lilliput.engine.process import signal_name, worker_environment


def test_workers_do_not_start_debuggers_and_spin_only_briefly() -> None:
    environment = worker_environment({"PATH": "/bin"})
    assert environment == {"PATH": "/bin", "GOMP_SPINCOUNT": "30000"}


def test_what_the_user_says_about_waiting_threads_holds() -> None:
    assert worker_environment({"GOMP_SPINCOUNT": "5"})["GOMP_SPINCOUNT"] == "5"
    assert "GOMP_SPINCOUNT" not in worker_environment({"OMP_WAIT_POLICY": "active"})


def test_signals_have_names() -> None:
    assert signal_name(signal.SIGSEGV) == "SIGSEGV"
    assert signal_name(99) == "signal 99"
