"""Grafana's role reads every table but the keys' digests, of which it has no use."""

from __future__ import annotations

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

#: The role of dashboards/postgres/grafana-reader.sh, where there is one. It once had pg_read_all_data, of which no
#: table can be left out, and which only a superuser may take back.
WITHOUT_THE_KEYS = """
DO $$
DECLARE
    owned text;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'grafana_reader') THEN
        RETURN;
    END IF;
    FOR owned IN
        SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables
        WHERE schemaname = current_schema() AND pg_has_role(tableowner, 'MEMBER')
    LOOP
        EXECUTE 'GRANT SELECT ON ' || owned || ' TO grafana_reader';
    END LOOP;
    ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO grafana_reader;
    REVOKE ALL ON api_keys FROM grafana_reader;
    IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        REVOKE pg_read_all_data FROM grafana_reader;
    END IF;
END $$
"""


def upgrade() -> None:
    """Bring the schema up."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(WITHOUT_THE_KEYS)


def downgrade() -> None:
    """Nothing was changed in the schema, and what may not be read stays unread."""
