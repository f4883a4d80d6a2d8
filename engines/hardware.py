"""Accelerators as data: what the strict roofline and the simulated engine divide by.

Sources: NVIDIA's data sheets (dense BF16 tensor peaks, no sparsity; HBM or GDDR bandwidth).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hardware:
    """One accelerator."""

    name: str
    #: dense BF16/FP16 tensor peak
    flops_per_s: float
    memory_bytes_per_s: float
    memory_bytes: float


#: Names are matched case-insensitively by `find_hardware`.
HARDWARE = {
    h.name: h
    for h in (
        Hardware("A100-80GB", 312e12, 2.039e12, 80e9),
        Hardware("A100-40GB", 312e12, 1.555e12, 40e9),
        Hardware("H100", 989e12, 3.35e12, 80e9),
        Hardware("H200", 989e12, 4.8e12, 141e9),
        Hardware("RTX-4060", 60e12, 272e9, 8e9),
    )
}


def find_hardware(name: str | None) -> Hardware | None:
    """The accelerator of that name, or `None` where it is not known (so: no roofline)."""
    if name is None:
        return None
    wanted = name.replace(" ", "-").replace("_", "-").lower()
    return next((h for key, h in HARDWARE.items() if key.lower() == wanted), None)
