"""A real Prometheus: Debian's, installed or unpacked beside the project."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.service import await_true, free_port

#: Where the gate unpacks the Debian package.
UNPACKED = Path(__file__).parents[2] / ".cache" / "prometheus" / "usr" / "bin"


def find_program(name: str) -> str:
    """Its path. Where there is none, the test that needs it fails."""
    found = shutil.which(name) or shutil.which(name, path=str(UNPACKED))
    assert found, f"{name} is missing: apt-get download prometheus && dpkg-deb -x prometheus_*.deb .cache/prometheus"
    return found


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running Prometheus."""

    client: httpx.Client
    #: every query so far
    asked: list[str] = field(default_factory=list)

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The samples PromQL gives: metric and value, each."""
        self.asked.append(query)
        answer = self.client.get("/api/v1/query", params={"query": query}).raise_for_status().json()
        assert answer["status"] == "success", answer
        return [{"metric": r["metric"], "value": float(r["value"][1])} for r in answer["data"]["result"]]

    def ask_one(self, query: str) -> float | None:
        """The value of the one sample; `None` without any."""
        found = self.ask(query)
        assert len(found) <= 1, found
        return found[0]["value"] if found else None


@contextmanager
def running_prometheus(config: str, folder: Path, port: int | None = None) -> Iterator[Prometheus]:
    """One with this configuration, ready; stopped at the end. `port`: a free one unless given."""
    folder.mkdir()
    (folder / "prometheus.yml").write_text(config)
    port = free_port() if port is None else port
    command = [
        find_program("prometheus"),
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=10.0) as client:

            def is_ready() -> bool:
                assert process.poll() is None, (folder / "log").read_text()
                try:
                    return client.get("/-/ready").status_code == 200
                except httpx.TransportError:
                    return False

            await_true(is_ready, 60.0, lambda: (folder / "log").read_text())
            yield Prometheus(client)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@pytest.fixture
def promtool() -> str:
    return find_program("promtool")
