"""The command line against a running service."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from bench_runner.measure.record import to_json
from engines.clock import sleep_s
from services.cli.main import main
from services.store.database import Database, close, open_database
from services.store.queue import claim
from services.store.results import finish
from tests.fakes.history import add_runs
from tests.fakes.records import make_record
from tests.fakes.results import make_result
from tests.fakes.service import Service, running_service

KEY = "key-of-a-person"
Say = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def service(shared_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with keys, for all tests here."""
    settings, headers = {"ENGINEBENCH_API_KEYS": KEY}, {"authorization": f"Bearer {KEY}"}
    folder = tmp_path_factory.mktemp("service")
    with running_service(shared_url, folder, "--api-only", settings=settings, headers=headers) as running:
        yield running


@pytest.fixture
def say(service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Runs a command against it: exit code, standard output, standard error."""
    monkeypatch.setenv("MY_KEY", KEY)

    def command(*words: str) -> tuple[int, str, str]:
        code = main([*words, "--server", f"http://127.0.0.1:{service.port}", "--api-key-env", "MY_KEY"])
        out, err = capsys.readouterr()
        assert KEY not in out + err
        return code, out, err

    return command


@pytest.fixture
def shared_database(shared_url: str) -> Iterator[Database]:
    opened = open_database(shared_url)
    yield opened
    close(opened)


@pytest.fixture
def result() -> dict[str, Any]:
    """What the worker of `working` gives for every run."""
    return make_result()


@pytest.fixture
def working(shared_database: Database, result: dict[str, Any]) -> Iterator[None]:
    """A worker that ends every run at once with the same result."""
    ending: list[bool] = []

    def work() -> None:
        while not ending:
            claimed = claim(shared_database, "test-worker", 30.0)
            if claimed is None:
                sleep_s(0.05)
            else:
                finish(shared_database, claimed, result, [to_json(make_record())])

    thread = Thread(target=work)
    thread.start()
    yield
    ending.append(True)
    thread.join()


def create(name: str) -> tuple[str, ...]:
    return ("targets", "create", name, "--engine", "vllm", "--model", "m", "--url", "http://127.0.0.1:9")


def test_targets_are_created_listed_probed_and_deleted(say: Say) -> None:
    assert say(*create("a"), "--hardware", "H100", "--flag=--max-num-seqs=128")[0] == 0
    code, out, _ = say("targets", "--json")
    assert (code, json.loads(out)[0]["flags"]) == (0, ["--max-num-seqs=128"])
    assert "http://127.0.0.1:9" in say("targets", "list")[1]
    code, out, err = say("targets", "probe", "a", "--timeout", "0.5")
    assert (code, out) == (2, "")
    assert "timeout_s" in err
    code, out, _ = say("targets", "probe", "a", "--timeout", "5")
    assert (code, "does not answer" in out) == (1, True)
    code, _, err = say(*create("a"))
    assert (code, "already" in err) == (2, True)
    assert say("targets", "delete", "a")[0] == 0
    code, _, err = say("targets", "show", "a")
    assert (code, "'a'" in err) == (2, True)


def test_the_compose_file_s_engines_become_targets_at_once(say: Say) -> None:
    code, _, err = say("targets", "create", "--compose", "--hardware", "A100-80GB")
    assert (code, "ENGINEBENCH_CONTAINERS" in err) == (2, True)
    for words, named in (
        (("--compose", "mine"), "leave out name"),
        (("--compose", "--class", "fast"), "matched or as-shipped"),
        ((), "NAME, --engine, --url, --model"),
    ):
        code, _, err = say("targets", "create", *words)
        assert (code, named in err) == (2, True), err


def test_a_key_s_header_goes_with_its_secret(say: Say) -> None:
    code, _, err = say(*create("keyed"), "--secret-header", "api-key")
    assert (code, "name the secret that goes there with --secret" in err) == (2, True)
    code, _, err = say(*create("keyed"), "--secret-header", "x-team", "--secret", "K")
    assert (code, "must be a header for keys" in err) == (2, True)


def test_a_dry_run_prints_what_would_run_and_what_is_not_alike(say: Say) -> None:
    assert say(*create("dry"))[0] == 0
    assert say("targets", "create", "dry-tgi", "--engine", "tgi", "--model", "m", "--url", "http://127.0.0.1:8")[0] == 0
    words = ("job", "--target", "dry", "--target", "dry-tgi", "--workload", "burst-100x128x128", "--dry-run")
    code, out, _ = say(*words)
    assert code == 0
    assert out.splitlines()[0] == "2 runs, in this order; nothing was queued"
    assert "dry-tgi on server:127.0.0.1:8: 100 requests of burst-100x128x128, repeat 0, at http://127.0.0.1:8" in out
    assert "not alike: too many at once: dry: queued; dry-tgi: refused above 128" in out
    assert json.loads(say(*words, "--json")[1])["runs"] == 2
    assert "burst-100x128x128" not in say("jobs")[1]
    code, out, _ = say(*words[:-1])
    assert (code, "not alike: too many at once" in out) == (0, True)
    job = out.split()[1].rstrip(":")
    assert say("jobs", "cancel", job)[0] == 0
    assert "not alike: too many at once" in say("jobs", "show", job)[1]
    for name in ("dry", "dry-tgi"):
        assert say("targets", "delete", name)[0] == 0


def test_a_job_is_followed_to_its_end(say: Say, working: None) -> None:
    say(*create("followed"))
    job = ("job", "--target", "followed", "--workload", "explain-quantum", "--repeats", "2", "--wait")
    code, out, err = say(*job)
    assert (code, "2 of 2" in out, "2 of 2 runs ended" in err) == (0, True, True)
    code, out, _ = say(*job, "--json")
    assert (code, json.loads(out)["counts"]) == (0, {"completed": 2})
    code, out, _ = say("runs", "list", "--json", "--target", "followed", "--validity", "VALID", "--limit", "3")
    assert (code, len(json.loads(out))) == (0, 3)
    assert json.loads(say("runs", "list", "--json", "--target", "followed", "--flag-class", "matched")[1]) == []
    run_id = json.loads(out)[0]["id"]
    assert say("runs", "show", run_id)[0] == 0
    assert say("runs", "requests", run_id)[1].splitlines()[0].startswith("index,")
    assert json.loads(say("runs", "requests", run_id, "--json")[1])[0]["index"] == 0
    assert "completed" in say("jobs")[1]


def test_a_job_that_is_not_valid_is_one(say: Say, result: dict[str, Any], working: None) -> None:
    result["validity"] = {"state": "INVALID", "reasons": [{"code": "failures", "severity": "invalid", "message": "x"}]}
    say(*create("not_valid"))
    code, out, _ = say("job", "--target", "not_valid", "--workload", "explain-quantum", "--wait")
    assert (code, "INVALID: failures" in out) == (1, True)


def test_waiting_jobs_and_runs_are_cancelled(say: Say) -> None:
    say(*create("cancelled"))
    job_id = json.loads(say("job", "--target", "cancelled", "--workload", "explain-quantum", "--json")[1])["id"]
    assert "1 cancelled" in say("jobs", "cancel", job_id)[1]
    assert say("jobs", "wait", job_id)[0] == 1
    assert "cancelled" in say("jobs", "show", job_id)[1]


def test_runs_are_compared(say: Say, shared_database: Database) -> None:
    vllm, tgi, other = add_runs(
        shared_database,
        make_result(took_ms=1000),
        make_result(target={"engine": "tgi"}, version="3.3.7", took_ms=800),
        make_result(target={"engine": "tgi"}, version="3.3.7", workload={"temperature": 1.0}),
    )
    code, out, _ = say("compare", vllm, tgi)
    assert (code, "0.800" in out) == (0, True)
    code, out, _ = say("compare", vllm, other)
    assert (code, "workload.temperature" in out) == (1, True)
    assert say("compare", vllm, tgi, "--axis", "colour")[0] == 2
    assert json.loads(say("compare", vllm, tgi, "--json")[1])["comparable"] is True


def test_wrong_use_is_two_and_says_why(say: Say) -> None:
    code, _, err = say("job", "--target", "none", "--workload", "explain-quantum")
    assert (code, "targets.0" in err) == (2, True)
    assert say("job", "--target", "a")[0] == 2
    assert say("jobs", "wait", "none")[0] == 2
    assert say("runs", "list", "--sort", "colour")[0] == 2


def test_a_service_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["jobs", "--server", "http://127.0.0.1:1"]) == 2
    assert "enginebench serve" in capsys.readouterr().err
    assert main(["jobs", "--server", "127.0.0.1"]) == 2
    assert main(["jobs", "--api-key-env", "NOT_SET_ANYWHERE"]) == 2
    assert "NOT_SET_ANYWHERE" in capsys.readouterr().err


def test_presets_need_no_service(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["workloads"]) == 0
    assert "burst-100x128x128" in capsys.readouterr().out
    assert main(["workloads", "qwen-speed"]) == 0
    assert json.loads(capsys.readouterr().out)["requests"] == 6
    assert main(["workloads", "none"]) == 2


def test_what_is_no_service_of_ours_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b'{"hello": 1}' if "jobs" in self.path else b"<html>"
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        for command in ("jobs", "runs"):
            assert main([command, "--server", f"http://127.0.0.1:{server.server_port}"]) == 2
            assert "does not answer as an enginebench service; mend --server" in capsys.readouterr().err
        server.shutdown()


def test_a_key_that_is_missing_is_asked_for_in_the_words_of_the_command_line(
    service: Service, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["jobs", "--server", f"http://127.0.0.1:{service.port}"]) == 2
    assert "set ENGINEBENCH_API_KEY" in capsys.readouterr().err


def test_a_list_of_nothing_is_wrong_use(say: Say) -> None:
    code, _, err = say("runs", "list", "--limit", "0")
    assert code == 2
    assert "--limit: give 1 or more" in err
