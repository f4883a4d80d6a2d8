"""Ports, database, folder and .env: from what was found to what is to be done."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.cli.checks.environment import REQUIRED, judge_environment, read_env_file, secrets_of
from services.cli.checks.finding import State, not_applicable, ok, warn, without_secrets, worst
from services.cli.checks.service import (
    DatabaseFacts,
    FolderFacts,
    Port,
    PortFacts,
    judge_database,
    judge_folder,
    judge_ports,
    ports_of,
    read_database,
    read_folder,
    read_ports,
)

API = Port("API", "127.0.0.1", 8700, "ENGINEBENCH_PORT")
ROOT = Path(__file__).parents[5]


def test_a_taken_port_is_a_fail_unless_this_service_has_it() -> None:
    taken = PortFacts(API, "Address already in use")
    ours = PortFacts(API, "Address already in use", is_service=True)
    others = PortFacts(Port("engines by default", "127.0.0.1", 8000, "--port", is_ours=False), "Address already in use")
    found = judge_ports([PortFacts(API, None), ours, others, taken])
    assert [one.state for one in found] == [State.OK, State.OK, State.WARN, State.FAIL]
    assert found[3].mend == "see who has it: ss -ltnp 'sport = :8700'; or choose another: ENGINEBENCH_PORT"


def test_ports_are_those_that_compose_publishes_where_it_is_used() -> None:
    ports = ports_of(None, {"PUBLISH": "0.0.0.0:9000"})
    assert [(one.of, one.host, one.port) for one in ports] == [
        ("API", "0.0.0.0", 9000),
        ("Grafana", "127.0.0.1", 3000),
        ("engines by default", "127.0.0.1", 8000),
    ]
    assert [one.port for one in ports_of(None, None)] == [8000]
    assert ports_of(None, {"PUBLISH": "[::1]:9000"})[0].host == "::1"


@pytest.mark.parametrize("port", ["87000", "0", "-1", "http", "", "²", "9" * 5000])
def test_what_is_no_port_is_a_fail_that_names_the_variable(port: str) -> None:
    ports = ports_of(None, {"PUBLISH": f"127.0.0.1:{port}", "PUBLISH_GRAFANA": port or "none"})
    api, grafana = judge_ports(read_ports(ports[:2]))
    assert (api.state, grafana.state) == (State.FAIL, State.FAIL)
    assert api.check == "port (API)"
    assert api.seen.startswith("PUBLISH in .env: '127.0.0.1:")
    assert api.mend == "write ADDRESS:PORT with a port from 1 to 65535: PUBLISH in .env"
    assert "PUBLISH_GRAFANA" in grafana.mend


@pytest.mark.parametrize("host", ["é" * 70, "a\0b"])
def test_what_is_no_address_is_a_fail_too(host: str) -> None:
    (found,) = judge_ports(read_ports(ports_of(None, {"PUBLISH": f"{host}:9000"})[:1]))
    assert (found.state, "PUBLISH in .env" in found.mend) == (State.FAIL, True)


@pytest.mark.parametrize(
    ("facts", "state", "words"),
    [
        (DatabaseFacts("sqlite", is_absent=True), State.OK, ""),
        (DatabaseFacts("postgresql"), State.OK, ""),
        (DatabaseFacts("postgresql", error="does not answer"), State.FAIL, "ENGINEBENCH_DATABASE_URL"),
        (DatabaseFacts("postgresql", schema="is at revision 0001"), State.WARN, "enginebench migrate"),
    ],
)
def test_the_database(facts: DatabaseFacts, state: State, words: str) -> None:
    found = judge_database(facts)
    assert found.state is state
    assert words in found.mend


def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert read_database(f"sqlite:///{tmp_path}/new/x.sqlite") == DatabaseFacts("sqlite", is_absent=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "x.sqlite").write_text("hello" * 1000)
    assert read_database(f"sqlite:///{tmp_path}/x.sqlite").error is not None


def test_the_state_folder() -> None:
    assert judge_folder(FolderFacts("a", "/a", is_writable=True, free_bytes=10**11)).state is State.OK
    assert judge_folder(FolderFacts("a", "/a", is_writable=True, free_bytes=10**8)).state is State.WARN
    found = judge_folder(FolderFacts("a/b", "/a", is_writable=False, free_bytes=10**11))
    assert (found.state, "ENGINEBENCH_STATE_DIR" in found.mend) == (State.FAIL, True)


def test_a_folder_is_looked_at_and_not_made(tmp_path: Path) -> None:
    found = read_folder(tmp_path / "none" / "yet")
    assert (found.looked_at, found.is_writable) == (str(tmp_path), True)
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").touch()
    assert not read_folder(tmp_path / "file" / "state").is_writable


def test_the_env_file_is_held_to_what_compose_wants(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    assert judge_environment(path, read_env_file(path)).state is State.NOT_APPLICABLE
    path.write_text("# passwords\nPOSTGRES_PASSWORD='one word'\nexport GRAFANA_PASSWORD = two # of Grafana\nGPU=\n")
    variables = read_env_file(path)
    assert variables == {"POSTGRES_PASSWORD": "one word", "GRAFANA_PASSWORD": "two", "GPU": ""}
    found = judge_environment(path, variables)
    assert found.state is State.FAIL
    assert found.seen.endswith("lacks GRAFANA_DB_PASSWORD, ENGINEBENCH_API_KEYS, ENGINEBENCH_METRICS_KEY")
    assert judge_environment(path, dict.fromkeys(REQUIRED, "x")).state is State.OK


def test_what_compose_wants_is_what_docker_compose_says() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    assert {name for name in REQUIRED if f"${{{name}:?" in text} == {*REQUIRED}
    assert text.count(":?") == sum(text.count(f"${{{name}:?") for name in REQUIRED)


def test_no_secret_gets_through() -> None:
    secrets = secrets_of({"POSTGRES_PASSWORD": "s3cret-word", "ENGINEBENCH_API_KEYS": "key-one,key-two", "GPU": "0000"})
    found = without_secrets([warn("database", "user:s3cret-word@host", "try key-two on 0000")], secrets)
    assert (found[0].seen, found[0].mend) == ("user:[secret]@host", "try [secret] on 0000")


def test_the_worst_counts() -> None:
    assert worst([ok("a", ""), not_applicable("b", "")]) is State.OK
    assert worst([ok("a", ""), warn("b", "", "")]) is State.WARN
