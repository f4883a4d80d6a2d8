"""The .env file beside docker-compose.yml: what `docker compose` would read from it. Values stay in here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from services.cli.checks.finding import Finding, fail, not_applicable, ok

#: Without these docker-compose.yml refuses to come up.
REQUIRED = (
    "POSTGRES_PASSWORD",
    "GRAFANA_DB_PASSWORD",
    "GRAFANA_PASSWORD",
    "ENGINEBENCH_API_KEYS",
    "ENGINEBENCH_METRICS_KEY",
)
#: Values that nobody is shown.
SECRETS = (*REQUIRED, "HF_TOKEN")


def read_env_file(path: Path) -> dict[str, str] | None:
    """Its variables, quotes taken off; `None` where there is no such file."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    found = {}
    for line in lines:
        if match := re.match(r"\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*?)\s*$", line):
            value = re.sub(r"\s+#.*$", "", match[2]) if match[2][:1] not in "'\"" else match[2]
            found[match[1]] = value.strip("'\"")
    return found


def judge_environment(path: Path, variables: Mapping[str, str] | None) -> Finding:
    """Has it all that docker-compose.yml wants?"""
    check = "docker compose's .env"
    if variables is None:
        return not_applicable(check, f"there is no {path} here; docker compose wants one, made from .env.example")
    if missing := [name for name in REQUIRED if not variables.get(name)]:
        return fail(check, f"{path} lacks {', '.join(missing)}", "for each: echo NAME=$(openssl rand -hex 24) >> .env")
    return ok(check, f"{path} has every password and key")


def secrets_of(variables: Mapping[str, str]) -> set[str]:
    """Values that must not be shown."""
    return {part for name in SECRETS for part in variables.get(name, "").split(",") if part}
