"""Where the draws of a run come from: one stream of random numbers for each purpose, so that none disturbs another."""

from __future__ import annotations

import hashlib
import random


def open_stream(purpose: str, *parts: int | str) -> random.Random:
    """Seeded random numbers of one purpose.

    Args:
        purpose: what is drawn, such as "prompts", "input-lengths" or "arrivals".
        parts: what else tells this stream from others: seed, repeat, attempt, the name of a batch.

    Returns:
        The same numbers for the same arguments, on any machine and in any process.
    """
    key = "\x1f".join([purpose, *(f"{type(part).__name__}:{part}" for part in parts)])
    return random.Random(int.from_bytes(hashlib.sha256(key.encode()).digest(), "big"))
