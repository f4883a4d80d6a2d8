"""Runs along an axis, searches, and what a worker's host allows."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up."""
    op.add_column("runs", sa.Column("series", sa.String(), nullable=True))
    op.add_column("runs", sa.Column("point", sa.Double(), nullable=True))
    op.add_column("runs", sa.Column("attained", sa.JSON(), nullable=True))
    op.add_column("runs", sa.Column("figures", sa.JSON(), nullable=True))
    op.add_column("workers", sa.Column("open_files", sa.BigInteger(), nullable=True))
    op.create_table(
        "searches",
        sa.Column("job_id", sa.String(), nullable=False),
        sa.Column("target", sa.String(), nullable=False),
        sa.Column("series", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("verdict", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_searches_job_id")),
        sa.PrimaryKeyConstraint("job_id", "target", "series", name=op.f("pk_searches")),
    )


def downgrade() -> None:
    """Take the schema back."""
    op.drop_table("searches")
    op.drop_column("workers", "open_files")
    for name in ("figures", "attained", "point", "series"):
        op.drop_column("runs", name)
