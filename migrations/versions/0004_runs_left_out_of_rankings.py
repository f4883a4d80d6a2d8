"""Runs that a person left out of rankings, with a note."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up."""
    op.add_column("runs", sa.Column("excluded_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("runs", sa.Column("excluded_note", sa.String(), nullable=True))


def downgrade() -> None:
    """Take the schema back."""
    op.drop_column("runs", "excluded_note")
    op.drop_column("runs", "excluded_at")
