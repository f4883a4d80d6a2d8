"""What the panels' queries gave, and what the test knows of the jobs that they must show."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import psycopg
from psycopg.rows import dict_row

from tests.fakes.grafana import PROMETHEUS, Moments, Query, fill


@dataclass(frozen=True, slots=True)
class Series:
    """One series of PromQL: labels, and values that are numbers."""

    labels: Mapping[str, str]
    values: Sequence[float]
    #: of each value, s since the epoch
    times: Sequence[float]


@dataclass(frozen=True, slots=True)
class Facts:
    """What went on, as the REST API tells it."""

    #: runs of both jobs, oldest first
    runs: Sequence[Mapping[str, Any]]
    #: the newest job's id
    newest: str
    #: names in the scrape config, by engine
    instances: Mapping[str, str]

    def last(self) -> dict[tuple[str, str], Mapping[str, Any]]:
        """(target, workload) -> its newest run."""
        return {(run["target"], run["workload"]): run for run in self.runs}

    def newest_of(self, engine: str) -> Mapping[str, Any]:
        """The newest run of this engine."""
        return [run for run in self.runs if run["engine"] == engine][-1]

    def all_of(self, name: str) -> set[Any]:
        """The values of a field of the runs."""
        return {run[name] for run in self.runs}

    def mean(self, metric: str, **where: Any) -> float:
        """Over the newest job's runs with these fields."""
        found = [
            run["metrics"][metric]
            for run in self.runs
            if run["job_id"] == self.newest and all(run[name] == value for name, value in where.items())
        ]
        assert found, where
        return float(sum(found) / len(found))


#: PromQL gives series, SQL gives rows.
Answer = list[Any]
#: Raises AssertionError where the answers (ref -> answer) do not show the jobs.
Check = Callable[[Mapping[str, Answer], Facts], None]


@dataclass(frozen=True, slots=True)
class Sources:
    """The two datasources, as Grafana reaches them."""

    prometheus: httpx.Client
    #: of the role that may only read
    postgres: str

    def ask(self, query: Query, chosen: Mapping[str, Sequence[str]], moments: Moments) -> Answer:
        """The query's answer; [] where it is empty, or has no value that is a number."""
        text = fill(query, chosen, moments)
        if query.source != PROMETHEUS:
            with psycopg.connect(self.postgres, row_factory=dict_row) as connection:
                return connection.execute(text.encode()).fetchall()
        if query.instant:
            return self._series("query", {"query": text, "time": moments.until.timestamp()})
        span = {"start": moments.since.timestamp(), "end": moments.until.timestamp(), "step": 1}
        return self._series("query_range", {"query": text, **span})

    def label_values(self, metric: str, label: str, moments: Moments) -> list[str]:
        """What `label_values(metric, label)` gives in Grafana."""
        span = {"start": moments.since.timestamp(), "end": moments.until.timestamp()}
        answer = self.prometheus.get(f"/api/v1/label/{label}/values", params={"match[]": metric, **span})
        return list(answer.raise_for_status().json()["data"])

    def _series(self, route: str, asked: dict[str, Any]) -> Answer:
        answer = self.prometheus.get(f"/api/v1/{route}", params=asked)
        assert answer.status_code == 200, f"{asked['query']}: {answer.text}"
        found = []
        for one in answer.json()["data"]["result"]:
            pairs = one["values"] if "values" in one else [one["value"]]
            finite = [(float(at), float(text)) for at, text in pairs if math.isfinite(float(text))]
            if finite:
                found.append(Series(one["metric"], [value for _, value in finite], [at for at, _ in finite]))
        return found
