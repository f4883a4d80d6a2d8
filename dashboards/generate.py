"""Writes every dashboard as JSON, to `grafana/`: `python -m dashboards.generate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.source.compare import compare
from dashboards.source.engine_internals import engine_internals
from dashboards.source.history import history
from dashboards.source.live import live
from dashboards.source.service_health import service_health

FOLDER = Path(__file__).parent / "grafana"

#: Name of the file -> what is in it.
DASHBOARDS: Mapping[str, Callable[[], Dashboard]] = {
    "live": live,
    "compare": compare,
    "history": history,
    "engine-internals": engine_internals,
    "service-health": service_health,
}


def render(dashboard: Dashboard) -> str:
    """Its JSON, the panels numbered in their order."""
    built = dashboard.build()
    for number, panel in enumerate(built.panels or [], 1):
        panel.id_val = number
    return JSONEncoder(sort_keys=True, indent=2, ensure_ascii=False).encode(built) + "\n"


def main() -> None:
    """Write them all."""
    for name, make in DASHBOARDS.items():
        (FOLDER / f"{name}.json").write_text(render(make()), encoding="utf-8")


if __name__ == "__main__":
    main()
