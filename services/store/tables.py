"""What the database keeps. The migrations make it so; a test holds the two against each other.

jobs ──▶ runs ──▶ documents, records, attempts, run_resources          resource_leases   one row a resource in use
 ├─▶ job_labels    └─▶ latest_runs (one row a label set)                targets, workers
 └─▶ searches      one row a target × workload; its runs have the same job, target and series           api_keys
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.sql.operators import OperatorType

from services.domain.text import storable
from services.store.rows import RunMetrics


class UtcTime(TypeDecorator[datetime]):
    """Aware datetimes in UTC. SQLite keeps them as text that sorts like the times do."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Aware UTC; naive for SQLite, which knows no zones."""
        if value is None:
            return None
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Aware UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Words(TypeDecorator[str]):
    """Text that an engine or a stranger may have written: what no database can carry becomes U+FFFD."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Without NUL and half surrogate pairs."""
        return None if value is None else str(storable(value))


class Document(TypeDecorator[Any]):
    """JSON in which any text may stand: every string in it is cleaned as `Words` are, and every number is finite."""

    impl = JSON
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """Without what the database, or the JSON of an answer, cannot carry."""
        return storable(value)

    def coerce_compared_value(self, op: OperatorType | None, value: Any) -> Any:
        """Keys and indices of a document are compared as JSON has it."""
        return self.impl_instance.coerce_compared_value(op, value)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id(target: str, **more: Any) -> Column[str]:
    """A column that names a row of another table."""
    return Column(target.partition(".")[0].removesuffix("s") + "_id", Words, ForeignKey(target), **more)


jobs = Table(
    "jobs",
    metadata,
    Column("id", Words, primary_key=True),
    Column("name", Words, nullable=False),
    Column("spec", Document, nullable=False),
    Column("labels", Document, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("cancel_requested_at", UtcTime),
    Column("idempotency_key", Words, unique=True),
    Column("body_digest", Words, nullable=False),
    #: id and name of the key it came with; NULL: it came without one, or before there was this column
    Column("created_by", Document(none_as_null=True)),
    Index(None, "created_at", "id"),
)

job_labels = Table(
    "job_labels",
    metadata,
    _id("jobs.id", primary_key=True),
    Column("key", Words, primary_key=True),
    Column("value", Words, nullable=False),
    Index(None, "key", "value", "job_id"),
)

#: Fields of `RunMetrics` that count; all others are numbers with a fraction.
COUNTED = ("requests", "successes", "total_input_tokens", "total_output_tokens")

runs = Table(
    "runs",
    metadata,
    Column("id", Words, primary_key=True),
    _id("jobs.id", nullable=False),
    Column("position", Integer, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("status", Words, nullable=False),
    Column("engine", Words, nullable=False),
    Column("model", Words, nullable=False),
    Column("target", Words, nullable=False),
    Column("workload", Words, nullable=False),
    Column("hardware", Words),
    Column("precision", Words),
    Column("endpoint", Words),
    #: "as-shipped" or "matched", as its target states it; by default the former
    Column("flag_class", Words, nullable=False, server_default="as-shipped"),
    Column("repeat", Integer, nullable=False),
    Column("spec_digest", Words, nullable=False),
    Column("workload_digest", Words),
    Column("simulated", Boolean),
    Column("resources", Document, nullable=False),
    Column("lengths_from", Words, ForeignKey("runs.id")),
    Column("created_at", UtcTime, nullable=False),
    Column("started_at", UtcTime),
    Column("ended_at", UtcTime),
    #: attempts so far; each claim raises it, so (worker, attempt) fences
    Column("attempt", Integer, nullable=False),
    #: attempts whose lease lapsed; a drained one is not lost
    Column("lost_attempts", Integer, nullable=False),
    Column("worker", Words),
    Column("lease_expires_at", UtcTime),
    Column("cancel_requested", Boolean, nullable=False),
    Column("progress", Document(none_as_null=True)),
    #: attempt whose result this row shows; NULL: there is none. Set once
    Column("result_attempt", Integer),
    Column("validity", Words),
    Column("reason_codes", Document, nullable=False),
    Column("failures", Document(none_as_null=True)),
    Column("error", Words),
    #: workload's name without its point, and where on the axis of the job's sweep or search; NULL: it has neither
    Column("series", Words),
    Column("point", Double),
    #: requests in flight at once: a closed loop's slots, all of a burst; NULL: an open loop
    Column("concurrency", Integer),
    #: what the engine said of itself; NULL: nothing, or no result
    Column("engine_version", Words),
    #: when a person left it out of rankings, and why; NULL both: nobody did
    Column("excluded_at", UtcTime),
    Column("excluded_note", Words),
    #: which start of its target it belongs to, and which burst of its cell there; NULL both: the job has no starts
    Column("start", Integer),
    Column("burst", Integer),
    #: names the start of the engine that it was carried out in; NULL: no starts, or no result
    Column("start_id", Words),
    #: of a search: requests, met, effective, codes, why; NULL: no result
    Column("attained", Document(none_as_null=True)),
    #: figures of the Summary by name; NULL: no result, or one from before there was this column
    Column("figures", Document(none_as_null=True)),
    *(Column(name, BigInteger if name in COUNTED else Double) for name in RunMetrics.__dataclass_fields__),
    UniqueConstraint("job_id", "position"),
    Index(None, "created_at", "id"),
    Index("ix_runs_queue", "status", "priority", "created_at", "id"),
    *(
        Index(None, name, "created_at", "id")
        for name in ("engine", "model", "workload", "target", "hardware", "flag_class", "validity")
    ),
)

searches = Table(
    "searches",
    metadata,
    _id("jobs.id", primary_key=True),
    Column("target", Words, primary_key=True),
    Column("series", Words, primary_key=True),
    #: which of the job's searches, from 0: its k-th run has the position k × searches + number
    Column("number", Integer, nullable=False),
    #: NULL until it is decided
    Column("verdict", Document(none_as_null=True)),
)

documents = Table(
    "documents",
    metadata,
    _id("runs.id", primary_key=True),
    #: RunSpec as it was queued
    Column("spec", Document, nullable=False),
    #: RunResult; NULL until there is one
    Column("result", Document(none_as_null=True)),
)

records = Table(
    "records",
    metadata,
    _id("runs.id", primary_key=True),
    Column("records", Integer, nullable=False),
    #: how `data` is packed: "zlib-jsonl"; "dropped": there were so many, and retention let go of them
    Column("packing", Words, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

attempts = Table(
    "attempts",
    metadata,
    _id("runs.id", primary_key=True),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("worker", Words, nullable=False),
    Column("started_at", UtcTime, nullable=False),
    Column("ended_at", UtcTime),
    Column("ended", Words),
)

run_resources = Table(
    "run_resources",
    metadata,
    _id("runs.id", primary_key=True),
    Column("resource", Words, primary_key=True),
)

resource_leases = Table(
    "resource_leases",
    metadata,
    Column("resource", Words, primary_key=True),
    _id("runs.id", nullable=False, index=True),
    Column("attempt", Integer, nullable=False),
    Column("worker", Words, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
)

latest_runs = Table(
    "latest_runs",
    metadata,
    Column("engine", Words, primary_key=True),
    Column("model", Words, primary_key=True),
    Column("workload", Words, primary_key=True),
    Column("target", Words, primary_key=True),
    #: "" where none was stated
    Column("hardware", Words, primary_key=True),
    Column("simulated", Boolean, primary_key=True),
    _id("runs.id", nullable=False),
    Column("ended_at", UtcTime, nullable=False),
)

targets = Table(
    "targets",
    metadata,
    Column("name", Words, primary_key=True),
    Column("engine", Words, nullable=False),
    Column("spec", Document, nullable=False),
    Column("description", Words, nullable=False),
    Column("created_at", UtcTime, nullable=False),
)

workers = Table(
    "workers",
    metadata,
    Column("name", Words, primary_key=True),
    Column("started_at", UtcTime, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
    Column("run_id", Words),
    Column("version", Words, nullable=False),
    #: how many files its load process may open (RLIMIT_NOFILE, hard limit); NULL: no limit, or not said
    Column("open_files", BigInteger),
    #: of the file system that its state folder is on; NULL: not said
    Column("state_free_bytes", BigInteger),
    Column("state_size_bytes", BigInteger),
)

api_keys = Table(
    "api_keys",
    metadata,
    #: public: it stands in the key's text
    Column("id", Words, primary_key=True),
    Column("name", Words, nullable=False),
    #: read, run or admin
    Column("role", Words, nullable=False),
    #: of its text, which nothing keeps
    Column("digest", Words, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    #: to within some minutes; NULL: never
    Column("last_used_at", UtcTime),
    #: NULL: in force
    Column("revoked_at", UtcTime),
)

retention = Table(
    "retention",
    metadata,
    #: what is let go of: "records"
    Column("kind", Words, primary_key=True),
    #: of the last pass; its end is before its beginning, or NULL, while it goes on
    Column("begun_at", UtcTime),
    Column("ended_at", UtcTime),
    #: a pass goes through the runs by their ids, and is behind this one
    Column("after", Words, nullable=False),
    #: let go of since the beginning: runs whose records went, and how large those were
    Column("runs", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    #: when a pass failed last, and why; it counts until one ended since
    Column("failed_at", UtcTime),
    Column("error", Words),
)
