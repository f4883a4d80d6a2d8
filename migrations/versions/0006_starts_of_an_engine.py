"""Which start of its engine a run belongs to, and which of that start's bursts it is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up."""
    op.add_column("runs", sa.Column("start", sa.Integer(), nullable=True))
    op.add_column("runs", sa.Column("burst", sa.Integer(), nullable=True))
    op.add_column("runs", sa.Column("start_id", sa.String(), nullable=True))


def downgrade() -> None:
    """Take the schema back."""
    for name in ("start_id", "burst", "start"):
        op.drop_column("runs", name)
