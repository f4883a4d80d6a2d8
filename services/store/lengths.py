"""What a claimed run carries out: its spec, with the lengths of another run's answers where they are to be matched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, select

from bench_runner.plan.spec import RunSpec
from services.store.records import unpack
from services.store.tables import documents, records, runs

#: The most that RunSpec takes.
_MOST_ATTEMPTS = 1000


class RunNotPossible(Exception):
    """The run can never be carried out; the text says why."""


def spec_to_run(connection: Connection, run_id: str, attempt: int) -> RunSpec:
    """The queued spec with this attempt, and matched lengths filled in.

    A run that matches lengths draws the prompts of the run it takes them from: that one's attempt, not its own.

    Raises:
        RunNotPossible: the spec is not one of this version, or the other run has no lengths to give.
    """
    query = select(documents.c.spec, runs.c.lengths_from).join(runs, runs.c.id == documents.c.run_id)
    queued = connection.execute(query.where(runs.c.id == run_id)).one()
    spec: dict[str, Any] = {**queued.spec, "attempt": min(attempt, _MOST_ATTEMPTS)}
    if queued.lengths_from is not None:
        other = connection.execute(
            select(runs.c.result_attempt, records.c.data)
            .outerjoin(records, records.c.run_id == runs.c.id)
            .where(runs.c.id == queued.lengths_from)
        ).one()
        if other.data is None:
            raise RunNotPossible(f"run {queued.lengths_from}, whose output lengths it takes, kept no records")
        lengths = tuple(_lengths(unpack(other.data), queued.lengths_from))
        spec["workload"] = {**spec["workload"], "matched_output_tokens": lengths}
        spec["attempt"] = min(other.result_attempt, _MOST_ATTEMPTS)
    try:
        return RunSpec.model_validate(spec)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise RunNotPossible(f"its spec cannot be read by this version: {where}: {fault['msg']}") from None


def _lengths(rows: Iterator[Mapping[str, Any]], run_id: str) -> Iterator[int]:
    """One length a request. A request that failed has none of its own; it gets the planned one."""
    for row in rows:
        if row["failure_kind"] is not None:
            yield row["planned_output_tokens"]
        elif row["engine_output_tokens"]:
            yield row["engine_output_tokens"]
        else:
            raise RunNotPossible(f"run {run_id}, whose output lengths it takes, did not count its tokens")
