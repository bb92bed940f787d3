"""Every error this project raises on purpose, in one tree.

    LilliputError                      code                     meaning
    ├── InvalidRequest                 invalid-request          the caller must change the request
    │   ├── BadName                    bad-name                 a model name that cannot be read
    │   ├── ContextExceeded            context-exceeded         the prompt is longer than the context
    │   ├── InputTooLong               input-too-long           an input to embed is longer than the model's window
    │   ├── BadGrammar                 bad-grammar              a grammar or JSON schema that cannot be compiled
    │   └── TemplateFailed             template-failed          the chat template is missing or refuses the messages
    ├── NotFound                       not-found
    │   ├── ModelNotFound              model-not-found          neither installed nor known
    │   ├── VariantNotFound            variant-not-found        the repository has no such quantization
    │   ├── RepositoryNotFound         repository-not-found     the Hub knows no such repository (or hides it)
    │   └── JobNotFound                job-not-found
    ├── AccessDenied                   access-denied
    │   ├── GatedRepository            gated-repository         terms must be accepted on the Hub
    │   └── BadToken                   bad-token                the Hub refuses the token
    ├── DoesNotFit                     does-not-fit             no variant fits the memory budget
    ├── BadFile                        bad-file                 a GGUF file that is damaged or hostile
    ├── Busy                           busy                     a bounded queue is full; try again
    │   └── TooManyRequests            too-many-requests        one caller has as much there as one may
    ├── HubError                       hub-error                the Hub answered with something unexpected
    │   ├── HubUnreachable             hub-unreachable
    │   └── RateLimited                rate-limited             the Hub asks to slow down
    ├── StorageError                   storage-error
    │   ├── DiskFull                   disk-full
    │   └── ChecksumMismatch           checksum-mismatch        the bytes are not those the Hub announced
    ├── EngineError                    engine-error
    │   ├── EngineLoadFailed           engine-load-failed       the engine could not load the file
    │   └── EngineDied                 engine-died              the engine process ended in mid-work
    ├── Cancelled                      cancelled                the work was cancelled by its owner
    ├── DeadlineExceeded               deadline-exceeded        a request was not done in the time it gave itself
    └── ShuttingDown                   shutting-down            the daemon is draining

An error carries what a person needs: a ``code`` for programs, a message that names the thing, and a ``hint`` that
says what to do. HTTP status codes are not here: they belong to ``api``.
"""

from __future__ import annotations


class LilliputError(Exception):
    """Base of all intended errors: a message that names the thing, a stable ``code`` and a ``hint``."""

    code = "internal-error"

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidRequest(LilliputError):
    """The request is wrong and must be changed; ``param`` names the field when one is to blame."""

    code = "invalid-request"

    def __init__(self, message: str, *, hint: str | None = None, param: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.param = param


class BadName(InvalidRequest):
    """A model name that does not follow any known form."""

    code = "bad-name"


class ContextExceeded(InvalidRequest):
    """A prompt of ``prompt_tokens`` tokens that a context of ``context_tokens`` tokens cannot hold."""

    code = "context-exceeded"

    def __init__(self, prompt_tokens: int, context_tokens: int) -> None:
        super().__init__(
            f"the prompt has {prompt_tokens} tokens but the context holds {context_tokens} "
            "(one is kept for the answer)",
            hint="shorten the prompt, or load the model with a larger context",
        )
        self.prompt_tokens = prompt_tokens
        self.context_tokens = context_tokens


class InputTooLong(InvalidRequest):
    """An input to embed or to rank that the model cannot take in one piece; the message has both numbers of tokens."""

    code = "input-too-long"


class BadGrammar(InvalidRequest):
    """A grammar or JSON schema that the sampler cannot use."""

    code = "bad-grammar"


class TemplateFailed(InvalidRequest):
    """A chat template that is missing, does not compile, or refuses these messages."""

    code = "template-failed"


class NotFound(LilliputError):
    """Something that was named does not exist."""

    code = "not-found"


class ModelNotFound(NotFound):
    """A model that is neither installed nor known."""

    code = "model-not-found"


class VariantNotFound(NotFound):
    """A repository without the wanted quantization or file."""

    code = "variant-not-found"


class RepositoryNotFound(NotFound):
    """A repository the Hub does not have, or does not show to this token."""

    code = "repository-not-found"


class JobNotFound(NotFound):
    """A job id that was never given out or is past its retention."""

    code = "job-not-found"


class AccessDenied(LilliputError):
    """The Hub refuses access."""

    code = "access-denied"


class GatedRepository(AccessDenied):
    """A repository whose terms must be accepted on the Hub first."""

    code = "gated-repository"


class BadToken(AccessDenied):
    """A token the Hub does not accept."""

    code = "bad-token"


class DoesNotFit(LilliputError):
    """No variant fits: the smallest needs ``need_bytes``, the budget is ``budget_bytes``."""

    code = "does-not-fit"

    def __init__(self, message: str, *, need_bytes: int, budget_bytes: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.need_bytes = need_bytes
        self.budget_bytes = budget_bytes


class BadFile(LilliputError):
    """A file that is not a sound GGUF file; the message names the fault."""

    code = "bad-file"


class Busy(LilliputError):
    """A bounded queue is full; ``retry_after_s`` is when trying again makes sense."""

    code = "busy"

    def __init__(self, message: str, *, retry_after_s: float, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class TooManyRequests(Busy):
    """One caller holds as many places as one may."""

    code = "too-many-requests"


class HubError(LilliputError):
    """The Hub answered with something that is nobody's fault here."""

    code = "hub-error"


class HubUnreachable(HubError):
    """The Hub cannot be reached, or stalls, after all retries."""

    code = "hub-unreachable"


class RateLimited(HubError):
    """The Hub still refuses for rate after all waits; ``retry_after_s`` if it said one."""

    code = "rate-limited"

    def __init__(self, message: str, *, retry_after_s: float | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class StorageError(LilliputError):
    """The local disk refuses."""

    code = "storage-error"


class DiskFull(StorageError):
    """Not enough free space for what is still to be written."""

    code = "disk-full"


class ChecksumMismatch(StorageError):
    """Downloaded bytes whose digest is not the announced one."""

    code = "checksum-mismatch"


class EngineError(LilliputError):
    """An engine failed."""

    code = "engine-error"


class EngineLoadFailed(EngineError):
    """An engine could not load its file; ``log_tail`` holds the last lines it printed."""

    code = "engine-load-failed"

    def __init__(self, message: str, *, hint: str | None = None, log_tail: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.log_tail = log_tail


class EngineDied(EngineError):
    """An engine process ended while it had work; ``signal_number`` if a signal ended it."""

    code = "engine-died"

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        signal_number: int | None = None,
        log_tail: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message, hint=hint)
        self.signal_number = signal_number
        self.log_tail = log_tail


class Cancelled(LilliputError):
    """The owner of the work cancelled it."""

    code = "cancelled"


class DeadlineExceeded(LilliputError):
    """A request was not done in the time that it gave itself."""

    code = "deadline-exceeded"


class ShuttingDown(LilliputError):
    """The daemon is draining and takes no new work."""

    code = "shutting-down"
