#!/bin/sh
# A role for Grafana that may read everything but the digests of API keys, and write nothing. The postgres image runs it
# once, on a fresh volume; the tables come after it, and the migration that takes the keys away from it (0010).
set -eu
: "${GRAFANA_DB_PASSWORD:?set GRAFANA_DB_PASSWORD in .env}"
# The password goes in by the environment: a command line is anybody's to read.
psql -v ON_ERROR_STOP=1 -U "${POSTGRES_USER:-postgres}" -d "${POSTGRES_DB:-postgres}" <<'SQL'
\getenv password GRAFANA_DB_PASSWORD
CREATE ROLE grafana_reader LOGIN PASSWORD :'password' CONNECTION LIMIT 10;
GRANT pg_read_all_stats TO grafana_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO grafana_reader;
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO grafana_reader;
SELECT to_regclass('api_keys') IS NOT NULL AS has_keys \gset
\if :has_keys
REVOKE ALL ON api_keys FROM grafana_reader;
\endif
ALTER ROLE grafana_reader SET default_transaction_read_only = on;
ALTER ROLE grafana_reader SET statement_timeout = '15s';
SQL
