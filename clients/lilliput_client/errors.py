"""Every error the client raises on purpose, in one tree.

    LilliputClientError          code
    ├── InvalidAddress           invalid-address       LILLIPUT_HOST, LILLIPUT_PORT or the URL cannot be used
    ├── DaemonUnreachable        daemon-unreachable    nothing answers at the address
    │   └── ConnectionLost       connection-lost       the daemon stopped answering in the middle
    ├── ProtocolError            protocol-error        the answer is not one of lilliput's
    ├── JobFailed                (the job's own)       a job ended in failure
    │   └── JobCancelled         cancelled             a job was cancelled
    └── ApiError                 (the daemon's own)    the daemon answered with an error
        ├── InvalidRequest       status 400, 413, 422
        ├── AccessDenied         status 401, 403
        ├── NotFound             status 404
        ├── Busy                 status 429; busy, rate-limited, shutting-down: try again, after retry_after_s if told
        └── DoesNotFit           code does-not-fit     no variant fits this machine

Each carries a ``message``, a stable ``code`` and, where one is known, a ``hint`` that says what to do.
"""

from __future__ import annotations


class LilliputClientError(Exception):
    """Base of all errors of this package."""

    default_code = "client-error"

    def __init__(self, message: str, *, code: str | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.hint = hint


class InvalidAddress(LilliputClientError):
    """An address that cannot be contacted as it is written."""

    default_code = "invalid-address"


class DaemonUnreachable(LilliputClientError):
    """Nothing answers at the daemon's address."""

    default_code = "daemon-unreachable"


class ConnectionLost(DaemonUnreachable):
    """The daemon was reached, then the connection broke or fell silent."""

    default_code = "connection-lost"


class ProtocolError(LilliputClientError):
    """An answer this client cannot read."""

    default_code = "protocol-error"


class JobFailed(LilliputClientError):
    """A job that ended in failure; ``code`` and ``hint`` are the daemon's."""

    default_code = "job-failed"


class JobCancelled(JobFailed):
    """A job that was cancelled before its end."""

    default_code = "cancelled"


class ApiError(LilliputClientError):
    """An error answer of HTTP ``status`` (200 when it came inside a running stream), told by the daemon itself."""

    default_code = "api-error"

    def __init__(
        self, status: int, code: str, message: str, hint: str | None = None, *, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, code=code, hint=hint)
        self.status = status
        self.retry_after_s = retry_after_s


class InvalidRequest(ApiError):
    """The request must be changed."""


class AccessDenied(ApiError):
    """The daemon, or the Hub behind it, refuses access."""


class NotFound(ApiError):
    """What was named does not exist."""


class Busy(ApiError):
    """The daemon takes no more work right now; ``retry_after_s`` if it said when."""


class DoesNotFit(ApiError):
    """No variant of the model fits this machine's memory."""
