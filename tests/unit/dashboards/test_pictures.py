"""The dashboards' pictures: one each, small; and what is drawn is what the queries gave, in the panels' own words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.fakes.grafana import dashboards, panels
from tests.stack.answers import Series
from tests.stack.pictures.lines import legend, lines_over, lines_over_time
from tests.stack.pictures.overrides import of_field
from tests.stack.pictures.page import DPI, HEAD_IN, MOST_BYTES, UNIT_IN, WIDTH_IN, Shown, draw
from tests.stack.pictures.units import written

FOLDER = Path(__file__).parents[3] / "dashboards" / "pictures"
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
LIVE = dashboards()["live"]


@pytest.mark.parametrize("name", dashboards())
def test_each_dashboard_has_a_picture_that_is_small(name: str) -> None:
    path = FOLDER / f"{name}.png"
    assert path.stat().st_size < MOST_BYTES
    with Image.open(path) as picture:
        assert picture.width == WIDTH_IN * DPI


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1816.49, "suffix: tok/s", "1816 tok/s"),
        (12_345.6, "suffix: tok/s", "12.3 K tok/s"),
        (0.0123, "s", "12.3 ms"),
        (0, "s", "0 s"),
        (7.05, "s", "7.05 s"),
        (0.261, "percentunit", "26.1 %"),
        (-0.05, "percentunit", "-5 %"),
        (3 * 1024**2, "bytes", "3 MiB"),
        (1, "bool_yes_no", "Yes"),
        (250_000_000, "short", "250 M"),
        (3, "short", "3"),
        (None, "s", "–"),
        (float("nan"), "s", "–"),
        ("vllm", "s", "vllm"),
        (NOW, "dateTimeAsIso", "12:00:00"),
    ],
)
def test_a_value_is_written_with_its_unit(value: Any, unit: str, text: str) -> None:
    assert written(value, unit) == text


def test_a_line_is_broken_where_nothing_was_scraped() -> None:
    series = Series({"engine": "vllm", "model": "m"}, [1.0, 2.0, 3.0], [10.0, 11.0, 20.0])
    panel = {"title": "t", "targets": [{"refId": "A", "legendFormat": "{{engine}} · {{ model }} p50"}]}
    (line,) = lines_over_time(panel, {"A": [series]})
    assert line.name == "vllm · m p50"
    assert list(line.y) == [1.0, 2.0, None, 3.0]


def test_rows_are_a_line_a_metric() -> None:
    rows = [{"time": NOW + timedelta(seconds=k), "value": k, "metric": f"m{k % 2}"} for k in range(4)]
    first, second = lines_over_time({"title": "t", "targets": [{"refId": "A"}]}, {"A": rows})
    assert (first.name, list(first.y), list(second.y)) == ("m0", [0.0, 2.0], [1.0, 3.0])
    assert first.x[0] == NOW.timestamp()
    over = lines_over("seconds", [{"seconds": 0.2, "running": 3, "waiting": None}])
    assert [(one.name, list(one.y)) for one in over] == [("running", [3.0]), ("waiting", [None])]


def test_without_a_template_a_series_is_named_by_its_labels() -> None:
    assert legend("__auto", {"__name__": "up", "job": "a", "instance": "b"}) == "instance=b, job=a"


def test_overrides_hold_for_what_they_match() -> None:
    curve = panels(dashboards()["compare"])[0]
    assert of_field(curve, "vllm · v (simulated)")["custom.fillOpacity"] == 0
    assert of_field(curve, "vllm · v")["custom.fillOpacity"] == 100
    assert of_field(curve, "vllm · v, repeats or starts")["custom.show"] == "points"
    assert of_field(curve, "vllm · v, whisker 8 across")["custom.hideFrom"]["legend"] is True


def test_a_dashboard_is_drawn_in_its_grid(tmp_path: Path) -> None:
    """Of every kind of panel there, some without any answer."""
    answers: dict[str, dict[str, Any]] = {}
    times = [NOW.timestamp() - 60 + k for k in range(60)]
    for panel in panels(LIVE):
        series = [Series({"engine": "vllm", "target": "v"}, [float(k % 7) for k in range(60)], times)]
        answers[panel["title"]] = {t["refId"]: [] if "GPU" in panel["title"] else series for t in panel["targets"]}
    shown = Shown(LIVE, answers, {"Engine": "All"}, NOW - timedelta(seconds=60), NOW)
    with Image.open(draw(shown, tmp_path / "live.png")) as picture:
        units = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in LIVE["panels"])
        assert picture.width == WIDTH_IN * DPI
        assert picture.height == pytest.approx((HEAD_IN + units * UNIT_IN) * DPI, abs=10)
        assert len(picture.getcolors() or ()) > 10


def test_a_kind_of_panel_that_nobody_can_draw_is_said(tmp_path: Path) -> None:
    panel = panels(LIVE)[0] | {"type": "geomap"}
    board = LIVE | {"panels": [panel]}
    series = [Series({}, [1.0], [NOW.timestamp()])]
    shown = Shown(board, {panel["title"]: {"A": series}}, {}, NOW - timedelta(seconds=60), NOW)
    with pytest.raises(AssertionError, match="no way to draw a geomap"):
        draw(shown, tmp_path / "x.png")
