"""An accelerator as one value: what ggml says of it, and what its own driver adds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NvidiaDetails:
    """What NVIDIA's driver says of a card at one moment; what it does not say is None.

    ``others_bytes`` is memory held by processes that are not ours. ``throttle_reasons`` are words, empty when the card
    runs at full clocks or is idle.
    """

    used_bytes: int | None = None
    others_bytes: int | None = None
    utilisation_percent: int | None = None
    temperature_c: int | None = None
    throttle_reasons: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Accelerator:
    """A device that holds and computes layers; ``kind`` is ggml's word ("gpu", "igpu", "accel").

    ``backend`` is ggml's name of the driver ("CUDA", "Vulkan", "MTL") and ``device_id`` the address on the PCI bus
    ("0000:c1:00.0"). Matrices over ``max_tensor_bytes`` stay in system memory (None: there is no such bound).
    ``free_bytes`` is what would be free without our engines, as of the last listing, except where a driver told what is
    free now. ``bandwidth_bytes_s`` and ``flops`` (half precision) are known of described machines, or measured.
    """

    name: str
    description: str
    kind: str
    total_bytes: int
    free_bytes: int | None = None
    backend: str | None = None
    device_id: str | None = None
    bandwidth_bytes_s: float | None = None
    flops: float | None = None
    nvidia: NvidiaDetails | None = None
    max_tensor_bytes: int | None = None

    @property
    def free_is_now(self) -> bool:
        """Whether ``free_bytes`` falls as engines take memory: only NVIDIA's driver is asked again and again."""
        return self.nvidia is not None and self.nvidia.used_bytes is not None
