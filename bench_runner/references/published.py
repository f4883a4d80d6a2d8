"""The published tables people hold their runs against. Their own inconsistencies are in `note`."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class Reference:
    """One published row. `None`: its source does not say."""

    table: str
    source: str
    engine: str
    model: str
    #: as its source names it, such as "A100"
    hardware: str
    #: the preset that asks for the same work
    workload: str
    precision: str | None = None
    engine_version: str | None = None
    #: as captioned, which need not be what was sent: see `note`
    num_prompts: int | None = None
    max_tokens_per_prompt: int | None = None
    input_tokens_per_prompt: int | None = None
    output_tokens_per_prompt: int | None = None
    concurrency: int | None = None
    total_input_tokens: int | None = None
    total_output_tokens: int | None = None
    input_tokens_per_s: float | None = None
    output_tokens_per_s: float | None = None
    duration_s: float | None = None
    gpu_memory_gb: float | None = None
    note: str | None = None


_FIELDS = {field.name for field in fields(Reference)}


def read_reference(row: dict[str, Any]) -> Reference:
    """One row of the file.

    Raises:
        ValueError: it has a field that a Reference does not know, or lacks one that it must have.
    """
    unknown = sorted(row.keys() - _FIELDS)
    if unknown:
        raise ValueError(f"published row has unknown fields: {', '.join(unknown)}")
    try:
        return Reference(**row)
    except TypeError as error:
        raise ValueError(f"published row lacks a field: {error}") from None


@cache
def load_references() -> tuple[Reference, ...]:
    """All published rows, in the order of the file."""
    text = files("bench_runner.references").joinpath("published.json").read_text(encoding="utf-8")
    return tuple(read_reference(row) for row in json.loads(text))
