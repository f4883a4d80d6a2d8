"""What a run's cards drew for its tokens."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema up. Runs from before it were not measured so."""
    op.add_column("runs", sa.Column("joules_per_output_token", sa.Double(), nullable=True))
    op.add_column("runs", sa.Column("output_tokens_per_s_per_w", sa.Double(), nullable=True))


def downgrade() -> None:
    """Take the schema back."""
    op.drop_column("runs", "output_tokens_per_s_per_w")
    op.drop_column("runs", "joules_per_output_token")
