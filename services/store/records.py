"""A run's request records as one blob: JSON lines under zlib, read and written one record at a time."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from services.domain.text import storable

#: How `records.data` is packed, kept beside it so that a later packing can be told from this one.
PACKING = "zlib-jsonl"

#: In its place where retention let go of the records.
DROPPED = "dropped"

_STEP_BYTES = 1 << 16


def pack(rows: Iterable[Mapping[str, Any]]) -> tuple[bytes, int]:
    """The blob, and how many records are in it."""
    deflate = zlib.compressobj(6)
    parts: list[bytes] = []
    count = 0
    for row in rows:
        parts.append(deflate.compress(json.dumps(storable(row), separators=(",", ":")).encode() + b"\n"))
        count += 1
    parts.append(deflate.flush())
    return b"".join(parts), count


def unpack(packed: bytes) -> Iterator[dict[str, Any]]:
    """The records in their order; memory holds one step of the blob."""
    inflate = zlib.decompressobj()
    rest = b""
    for start in range(0, len(packed), _STEP_BYTES):
        *lines, rest = (rest + inflate.decompress(packed[start : start + _STEP_BYTES])).split(b"\n")
        for line in lines:
            yield json.loads(line)
