"""What the daemon tells of what would fit, and what it can be asked for. Fields it does not know are None."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from lilliput_client.machines import Budget, Hardware


class LoadWanted(TypedDict, total=False):
    """What a pull or a load is asked to keep to, from then on; the words are those of ``PlanWanted``.

    ``force``: even if it does not fit.
    """

    context: int | None
    use_case: str | None
    slots: int | None
    kv: str | None
    gpu_layers: int | None
    rope_scaling: str | None
    rope_freq_base: float | None
    rope_freq_scale: float | None
    yarn_orig_ctx: int | None
    draft: str | None
    force: bool


class PlanWanted(TypedDict, total=False):
    """What a plan is asked to keep to; what is not given, or None, is left to the daemon's choice.

    ``context`` in tokens, or "max" for what the model was trained with; ``use_case`` by name; ``slots``, requests to
    be answered at once; ``kv``, the type of the KV cache ("q8_0"); ``machine``, a described machine's name or a
    description of one, as in a TOML file; ``budget`` of system memory in bytes or as text ("24GiB"); ``all``, also the
    variants that would have to be made; ``gpu_layers``, how many layers accelerators hold; ``mmproj`` and ``lora``, a
    projector and an adapter to be loaded beside: a file of the repository or an absolute path.

    A context longer than the model was trained for needs ``rope_scaling`` ("yarn", "linear", or "none" to take it as it
    is); ``rope_freq_base``, ``rope_freq_scale`` and ``yarn_orig_ctx`` go before what the file and the context say.
    """

    context: int | Literal["max"] | None
    use_case: str | None
    slots: int | None
    kv: str | None
    machine: str | Mapping[str, Any] | None
    budget: int | str | None
    all: bool
    gpu_layers: int | None
    mmproj: str | None
    lora: str | None
    rope_scaling: str | None
    rope_freq_base: float | None
    rope_freq_scale: float | None
    yarn_orig_ctx: int | None


@dataclass(frozen=True, slots=True)
class Need:
    """What a variant takes of one memory, in bytes, by purpose.

    Of ``weights`` in main memory ``weights_mapped`` are the file's and ``weights_copied`` repacked, in anonymous
    memory; ``weights_idle`` are mapped originals of copies, which nobody reads again and which are not counted.
    """

    weights: int = 0
    kv: int = 0
    compute: int = 0
    overhead: int = 0
    weights_mapped: int = 0
    weights_copied: int = 0
    weights_idle: int = 0

    @property
    def total_bytes(self) -> int:
        """All of it."""
        return self.weights + self.kv + self.compute + self.overhead


@dataclass(frozen=True, slots=True)
class Setting:
    """How a variant would be loaded; ``cpu_expert_layers`` are layers whose experts stay in system memory."""

    context_tokens: int | None = None
    slots: int | None = None
    kv_type: str | None = None
    gpu_layers: int = 0
    cpu_expert_layers: int = 0


@dataclass(frozen=True, slots=True)
class Rope:
    """Rope settings in place of the file's; ``freq_scale`` is one divided by how far the context is stretched."""

    scaling: str | None = None
    freq_base: float | None = None
    freq_scale: float | None = None
    original_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens a second: between ``low`` and ``high``, most likely ``mid``."""

    low: float
    mid: float
    high: float


@dataclass(frozen=True, slots=True)
class Quality:
    """What is lost against the model in full precision.

    ``kld`` is the mean Kullback-Leibler divergence of the next token, ``dppl_percent`` the rise of perplexity,
    ``top1_agreement`` (0 to 1) how often the likeliest token is the same. ``measured`` of this very file, or a figure
    of its type, as ``source`` tells.
    """

    kld: float | None = None
    dppl_percent: float | None = None
    top1_agreement: float | None = None
    bits_per_weight: float | None = None
    source: str | None = None
    measured: bool = False


@dataclass(frozen=True, slots=True)
class Variant:
    """One variant as a plan judged it; ``need`` maps a memory ("ram", "CUDA0") to what is taken of it.

    ``offload`` is none, partial or full. ``exists`` is False for what a quantization would have to make. ``estimated``
    says that the need was calculated without llama.cpp, give or take ``margin_bytes``. ``near_misses`` are what would
    make it fit.
    """

    name: str
    fits: bool
    files: tuple[str, ...] = ()
    file_bytes: int | None = None
    exists: bool = True
    need: Mapping[str, Need] = field(default_factory=dict)
    total_bytes: int | None = None
    setting: Setting | None = None
    offload: str | None = None
    estimated: bool = False
    margin_bytes: int | None = None
    tokens_per_s: Speed | None = None
    prompt_tokens_per_s: Speed | None = None
    quality: Quality | None = None
    reason: str | None = None
    near_misses: tuple[str, ...] = ()
    pss_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Which variants of a model fit a machine, best quality first; ``chosen`` names the one to take, None if none fits.

    ``budget`` maps each memory of the machine to what may be used of it; ``objective`` says what the choice goes by
    and ``summary`` why this was chosen, or nothing.
    """

    model: str
    version: int = 1
    use_case: str | None = None
    machine: Hardware = field(default_factory=Hardware)
    budget: Mapping[str, Budget] = field(default_factory=dict)
    context_tokens: int | None = None
    slots: int | None = None
    objective: str | None = None
    summary: str | None = None
    variants: tuple[Variant, ...] = ()
    chosen: str | None = None
    notes: tuple[str, ...] = ()
    rope: Rope | None = None

    @property
    def taken(self) -> Variant | None:
        """The chosen variant."""
        return next((variant for variant in self.variants if variant.name == self.chosen), None)


@dataclass(frozen=True, slots=True)
class UseCase:
    """What a model is wanted for: ``floor`` the quantization never to go below, ``start`` the one to begin with."""

    name: str
    title: str | None = None
    description: str | None = None
    floor: str | None = None
    start: str | None = None
    target_tokens_per_s: float | None = None
    context_tokens: int | None = None
    prefers: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Deviation:
    """Measured less predicted bytes over several loads; ``worst`` is the one farthest from zero."""

    median: int
    worst: int


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How far plans were off what ``loads`` loads of one architecture, backend and llama.cpp build really took.

    ``offload`` says how much went to accelerators: ``none``, ``partial`` or ``full``. ``planned`` and ``measured`` are
    the last load's, all memories added. ``error_percent`` is that load's (more than
    zero: it took more than planned), ``worst_percent`` the farthest from zero of all. ``correction_bytes`` goes onto
    the next plan's overhead; ``errors_bytes`` are by memory and part (weights, kv, compute, overhead). ``updated_at``
    is in unix seconds.
    """

    architecture: str
    backend: str | None = None
    build: str | None = None
    loads: int = 0
    planned: Need | None = None
    measured: Need | None = None
    error_percent: float | None = None
    worst_percent: float | None = None
    correction_bytes: int | None = None
    updated_at: float | None = None
    errors_bytes: Mapping[str, Mapping[str, Deviation]] = field(default_factory=dict)
    offload: str | None = None
