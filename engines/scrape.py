"""An engine's own /metrics turned into canonical gauges. Absent stays absent: never 0."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

from engines.contract import Engine
from engines.control import ControlClient
from engines.errors import TargetUnavailable

#: A sample's labels, braces included; their values may hold any sign, quotes and backslashes escaped.
_LABELS = r'\{(?:[^"}\n]|"(?:[^"\\\n]|\\.)*")*\}'
_LABEL = re.compile(r'([A-Za-z_]\w*)="((?:[^"\\\n]|\\.)*)"')
_ESCAPED = re.compile(r'\\([\\"n])')


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
    for name, value in _samples(text, tuple(wanted)):
        for canonical in wanted[name]:
            found[canonical] = found.get(canonical, 0.0) + value
    return found


def info_labels(text: str, ending: str) -> dict[str, str]:
    """Labels of the first sample whose name ends so, such as `vllm:cache_config_info`; {} where there is none."""
    sample = re.search(rf"^[A-Za-z_:][\w:]*{re.escape(ending)}({_LABELS})", text, re.MULTILINE)
    return {} if sample is None else {name: _plain(value) for name, value in _LABEL.findall(sample[1])}


def _samples(text: str, names: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    """Each sample so named with its value, where that is finite. A busy server's thousands of other lines cost little:
    it is read while the load goes on.
    """
    for name, number in _line_of(names).findall(text) if names else ():
        try:
            value = float(number)
        except ValueError:
            continue
        if math.isfinite(value):
            yield name, value


@lru_cache(maxsize=32)
def _line_of(names: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"^({'|'.join(map(re.escape, names))})(?:{_LABELS})?[ \t]+(\S+)", re.MULTILINE)


def _plain(value: str) -> str:
    """A label's value without its escapes."""
    return _ESCAPED.sub(lambda found: {"n": "\n"}.get(found[1], found[1]), value)
