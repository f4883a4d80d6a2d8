"""schemathesis over the whole OpenAPI document, all checks, on both databases: no 500, no undocumented status.

Every check is on by default, and naming them on the command line would override the file: what is left out of a check
stands in schemathesis.toml beside this one, with its reason.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from services.domain.key import Role
from services.store.database import Database
from services.store.keys import create_key
from tests.fakes.history import add_runs, queue_job
from tests.fakes.results import make_result
from tests.fakes.service import running_service

CONFIG = Path(__file__).with_name("schemathesis.toml")
#: For each operation and phase; the whole takes a minute on an idle machine.
MOST_EXAMPLES = 5
#: The coverage phase walks every boundary of every field, which is most of the time: once is enough, on the database
#: that takes less (no NUL, no integers beyond 64 bits).
PHASES = {"postgresql": "examples,coverage,fuzzing,stateful", "sqlite": "examples,fuzzing,stateful"}


#: One service is open, the other wants a key with every request: what it answers without one is held too.
WITH_KEY = {"postgresql": False, "sqlite": True}


@pytest.mark.slow
def test_no_request_breaks_the_api(database: Database, database_url: str, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    # Lists that have something to show, with and without a result.
    add_runs(database, make_result(), make_result(target={"engine": "tgi", "hardware": None}), labels={"a": "b"})
    queue_job(database, make_result())
    headers = {}
    if WITH_KEY[database.dialect]:
        headers["Authorization"] = f"Bearer {create_key(database, name='fuzzer', role=Role.ADMIN)[1]}"
    with running_service(database_url, tmp_path / "state", "--api-only", headers=headers) as service:
        fuzzer = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "--no-color"),
                *("run", f"http://127.0.0.1:{service.port}/openapi.json"),
                *("--max-examples", str(MOST_EXAMPLES), "--seed", "1", "--generation-database", "none"),
                *("--phases", PHASES[database.dialect], "--request-timeout", "60"),
                *("--continue-on-failure", "--report-json-path", str(report)),
                *(part for name, value in headers.items() for part in ("--header", f"{name}: {value}")),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=1200,
        )
        assert fuzzer.returncode == 0, fuzzer.stdout + fuzzer.stderr + service.log_tail()
        document = service.client.get("/openapi.json").json()
        operations = sum(len(methods) for methods in document["paths"].values())
        assert f"Tested: {operations}" in fuzzer.stdout, fuzzer.stdout
        assert json.loads(report.read_text())
        assert service.client.get("/readyz").status_code == 200
