"""What dashboards and lists read of every run as columns of its row, filled for runs from before them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

runs = sa.table(
    "runs",
    sa.column("id", sa.String),
    sa.column("result_attempt", sa.Integer),
    sa.column("concurrency", sa.Integer),
    sa.column("engine_version", sa.String),
    sa.column("output_tokens_per_s_per_gpu", sa.Double),
    sa.column("tokens_per_s_per_user_p50", sa.Double),
)
documents = sa.table(
    "documents", sa.column("run_id", sa.String), sa.column("spec", sa.JSON), sa.column("result", sa.JSON)
)


def upgrade() -> None:
    """Bring the schema up."""
    op.add_column("runs", sa.Column("concurrency", sa.Integer(), nullable=True))
    op.add_column("runs", sa.Column("engine_version", sa.String(), nullable=True))
    op.add_column("runs", sa.Column("output_tokens_per_s_per_gpu", sa.Double(), nullable=True))
    op.add_column("runs", sa.Column("tokens_per_s_per_user_p50", sa.Double(), nullable=True))
    op.add_column("workers", sa.Column("state_free_bytes", sa.BigInteger(), nullable=True))
    op.add_column("workers", sa.Column("state_size_bytes", sa.BigInteger(), nullable=True))
    own = documents.c.run_id == runs.c.id
    workload, result = documents.c.spec, documents.c.result
    in_flight = sa.case(
        (
            workload[("workload", "arrival", "kind")].as_string() == "burst",
            workload[("workload", "requests")].as_integer(),
        ),
        else_=workload[("workload", "arrival", "concurrency")].as_integer(),
    )
    op.execute(sa.update(runs).where(own).values(concurrency=in_flight))
    told = {
        "engine_version": result[("environment", "server", "version")].as_string(),
        "output_tokens_per_s_per_gpu": result[("summary", "output_tokens_per_s_per_gpu")].as_float(),
        "tokens_per_s_per_user_p50": result[("summary", "tokens_per_s_per_user", "p50")].as_float(),
    }
    op.execute(sa.update(runs).where(own, runs.c.result_attempt.is_not(None)).values(told))


def downgrade() -> None:
    """Take the schema back."""
    op.drop_column("workers", "state_size_bytes")
    op.drop_column("workers", "state_free_bytes")
    for name in ("tokens_per_s_per_user_p50", "output_tokens_per_s_per_gpu", "engine_version", "concurrency"):
        op.drop_column("runs", name)
