"""The committed dashboards: in step with their source, whole, and asking for nothing that is not there."""

from __future__ import annotations

import re

import pytest
import yaml

from dashboards.generate import DASHBOARDS, FOLDER, render
from dashboards.source.panels import NEEDS_GPU
from tests.fakes.grafana import POSTGRES, PROMETHEUS, dashboards, panel_queries, panels, variable_queries

BOARDS = dashboards()
#: What only a GPU's exporter, or a run whose cards were read, can give; as one column of many it may be empty.
OF_A_GPU = re.compile(r"DCGM_|telemetry,cards|(joules_per_output_token|output_tokens_per_s_per_w) IS NOT NULL")
PANELS = [
    pytest.param(panel, id=f"{name}: {panel['title']}") for name, board in BOARDS.items() for panel in panels(board)
]
QUERIES = [query for name, board in BOARDS.items() for query in panel_queries(name, board)]


def test_the_committed_files_are_what_the_source_gives() -> None:
    assert set(BOARDS) == set(DASHBOARDS)
    for name, make in DASHBOARDS.items():
        committed = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
        assert committed == render(make()), f"{name}.json is old: python -m dashboards.generate"


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_says_what_it_shows(panel: dict[str, object]) -> None:
    config = panel["fieldConfig"]
    assert isinstance(config, dict)
    defaults = config["defaults"]
    assert panel["title"]
    assert len(str(panel["description"])) > 20
    assert str(panel["description"]).endswith((".", NEEDS_GPU))
    assert defaults["unit"]
    assert defaults["noValue"].endswith(".")
    steps = defaults["thresholds"]["steps"]
    assert steps[0]["value"] is None
    values = [step["value"] for step in steps[1:]]
    assert values == sorted(values)


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_asks_the_provisioned_datasource(panel: dict[str, object]) -> None:
    targets = panel["targets"]
    assert isinstance(targets, list)
    assert targets
    assert len({target["refId"] for target in targets}) == len(targets)
    assert {target["datasource"]["uid"] for target in [*targets, panel]} <= {PROMETHEUS, POSTGRES}
    assert len({target["datasource"]["uid"] for target in [*targets, panel]}) == 1


def test_panels_are_told_apart_and_do_not_overlap() -> None:
    for board in BOARDS.values():
        titles = [panel["title"] for panel in panels(board)]
        assert len(set(titles)) == len(titles)
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            rows = range(place["y"], place["y"] + place["h"])
            cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in rows}
            assert max(x for x, _ in cells) < 24, panel["title"]
            assert not cells & taken, panel["title"]
            taken |= cells


def test_nothing_fills_an_empty_panel() -> None:
    for query in QUERIES:
        assert not re.search(r"vector\s*\(|absent|coalesce\(avg|generate_series", query.text), query.place


def test_a_panel_declares_that_it_needs_a_gpu_just_where_it_does() -> None:
    for board in BOARDS.values():
        for panel in panels(board):
            asks = any(OF_A_GPU.search(str(target)) for target in panel["targets"])
            assert asks == panel["description"].endswith(NEEDS_GPU), panel["title"]


def test_every_variable_is_used_and_every_used_one_is_there() -> None:
    for name, board in BOARDS.items():
        there = {query.title.removeprefix("variable ") for query in variable_queries(name, board)}
        text = " ".join(query.text for query in panel_queries(name, board))
        used = {found for found in re.findall(r"\$\{?(\w+)", text) if not found.startswith("__")}
        assert used == there, name


def test_the_provisioned_datasources_have_the_uids_that_the_dashboards_name() -> None:
    text = (FOLDER / "provisioning" / "datasources" / "enginebench.yaml").read_text()
    sources = yaml.safe_load(text)["datasources"]
    named = {
        (target["datasource"]["uid"], target["datasource"]["type"])
        for board in BOARDS.values()
        for panel in panels(board)
        for target in panel["targets"]
    }
    assert {(source["uid"], source["type"]) for source in sources} == named
    assert "password: ${GRAFANA_DB_PASSWORD}" in text
