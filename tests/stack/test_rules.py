"""promtool finds nothing to say about configuration and rules, and each alert fires where it should."""

from __future__ import annotations

import subprocess
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "dashboards" / "prometheus"


def run(promtool: str, *arguments: str) -> str:
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rules_are_rules(promtool: str) -> None:
    for path in sorted((FOLDER / "rules").glob("*.yml")):
        assert "SUCCESS" in run(promtool, "check", "rules", "--lint=all", "--lint-fatal", str(path))


def test_the_configuration_is_one(promtool: str, tmp_path: Path) -> None:
    (tmp_path / "metrics_key").write_text("key")
    config = (FOLDER / "prometheus.yml").read_text()
    config = config.replace("/run/secrets/metrics_key", str(tmp_path / "metrics_key"))
    (tmp_path / "prometheus.yml").write_text(config.replace("rules/*", f"{FOLDER}/rules/*"))
    told = run(promtool, "check", "config", "--lint=all", "--lint-fatal", str(tmp_path / "prometheus.yml"))
    assert "2 rule files found" in told


def test_rules_give_what_they_should(promtool: str) -> None:
    for path in sorted((FOLDER / "tests").glob("*.yml")):
        assert "SUCCESS" in run(promtool, "test", "rules", str(path))
