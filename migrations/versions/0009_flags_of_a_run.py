"""The class of its target's flags as a column of a run, for like is compared with like; filled for runs before it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

#: What a target's flags are where it does not say.
AS_SHIPPED = "as-shipped"

runs = sa.table("runs", sa.column("id", sa.String), sa.column("flag_class", sa.String))
documents = sa.table("documents", sa.column("run_id", sa.String), sa.column("spec", sa.JSON))


def upgrade() -> None:
    """Bring the schema up."""
    op.add_column("runs", sa.Column("flag_class", sa.String(), server_default=AS_SHIPPED, nullable=False))
    stated = documents.c.spec[("target", "flag_class")].as_string()
    of_another = documents.c.run_id == runs.c.id, stated != AS_SHIPPED
    op.execute(sa.update(runs).where(*of_another).values(flag_class=stated))
    op.create_index(op.f("ix_runs_flag_class_created_at_id"), "runs", ["flag_class", "created_at", "id"], unique=False)


def downgrade() -> None:
    """Take the schema back."""
    op.drop_index(op.f("ix_runs_flag_class_created_at_id"), table_name="runs")
    op.drop_column("runs", "flag_class")
