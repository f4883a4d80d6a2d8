"""An engine's own /metrics turned into canonical gauges. Absent stays absent: never 0."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from engines.contract import Engine
from engines.control import ControlClient
from engines.errors import TargetUnavailable


def scrape(client: ControlClient, engine: Engine) -> dict[str, float]:
    """The engine's counters and gauges at this moment, under canonical names; {} where it has no metrics."""
    text = fetch_metrics(client, engine)
    return {} if text is None else read_metrics(text, engine.metric_names)


def fetch_metrics(client: ControlClient, engine: Engine) -> str | None:
    """The text of the engine's /metrics; `None` where it has none or does not answer."""
    path = engine.capabilities.metrics_path
    if path is None:
        return None
    try:
        answer = client.get(path)
    except TargetUnavailable:
        return None
    return answer.text if answer.ok else None


def read_metrics(text: str, names: Mapping[str, str]) -> dict[str, float]:
    """Samples of a Prometheus text under canonical names, summed over label sets.

    Args:
        text: Prometheus text exposition.
        names: canonical name -> the engine's own sample name; a counter's `_total` may be left out.

    Returns:
        Only what the text has: a name that is absent, or has no finite sample, is left out. {} for a text that is no
        exposition.
    """
    wanted: dict[str, list[str]] = {}
    for canonical, own in names.items():
        wanted.setdefault(own, []).append(canonical)
        if not own.endswith("_total"):
            wanted.setdefault(f"{own}_total", []).append(canonical)
    found: dict[str, float] = {}
    for name, _labels, value in _samples(text):
        for canonical in wanted.get(name, ()):
            if math.isfinite(value):
                found[canonical] = found.get(canonical, 0.0) + value
    return found


def info_labels(text: str, ending: str) -> dict[str, str]:
    """Labels of the first sample whose name ends so, such as `vllm:cache_config_info`; {} where there is none."""
    return next((dict(labels) for name, labels, _value in _samples(text) if name.endswith(ending)), {})


def _samples(text: str) -> list[tuple[str, Mapping[str, str], float]]:
    from prometheus_client.parser import text_string_to_metric_families

    samples: list[Any] = []
    try:
        for family in text_string_to_metric_families(text):
            samples.extend(family.samples)
    except (ValueError, KeyError, IndexError):
        return []
    return [(sample.name, sample.labels, float(sample.value)) for sample in samples]
