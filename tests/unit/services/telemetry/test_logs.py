"""One JSON object a line, what is in work on each, and no secret in any of them."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import threading
from typing import Any

from services.telemetry.logs import CUT, JsonLines, about_run, answering, carried, in_work


def line(message: str = "job accepted", secrets: tuple[str, ...] = (), args: Any = (), **extra: Any) -> dict[str, Any]:
    record = logging.LogRecord("services.api", logging.INFO, "file.py", 1, message, args, None)
    record.__dict__.update(extra)
    text = JsonLines(secrets).format(record)
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_event_and_fields() -> None:
    found = line(job="j1", wait_s=1.5)
    assert {k: found[k] for k in ("level", "logger", "event", "job", "wait_s")} == {
        "level": "info",
        "logger": "services.api",
        "event": "job accepted",
        "job": "j1",
        "wait_s": 1.5,
    }
    assert found["at"].endswith("+00:00")
    assert not {"args", "msg", "pathname", "color_message"} & set(found)


def test_secrets_are_cut_out_of_messages_fields_and_tracebacks() -> None:
    secret = "s3cret-word"
    try:
        raise RuntimeError(f"refused {secret}")
    except RuntimeError:
        exc_info = sys.exc_info()
    found = line(f"sent {secret}", (secret,), header=f"Bearer {secret}", exc_info=exc_info)
    assert secret not in json.dumps(found)
    assert found["header"] == f"Bearer {CUT}"
    assert "RuntimeError" in found["traceback"]


def test_what_is_not_json_is_shown_as_text() -> None:
    assert line(path=logging)["path"].startswith("<module")
    assert line(odd={(1, 2): 3})["odd"] == "{(1, 2): 3}"
    knot: list[Any] = []
    knot.append(knot)
    assert line(knot=knot)["knot"] == "[[...]]"


def test_a_message_whose_arguments_do_not_fit_is_still_a_line() -> None:
    assert line("%d runs", args=("many",))["event"] == "%d runs"


def test_half_a_surrogate_pair_does_not_cost_the_line() -> None:
    assert line(said="\ud83d")["said"] == "?"


def test_a_secret_that_json_escapes_is_cut_too() -> None:
    assert line(token='say "friend"\\', secrets=('say "friend"\\',))["token"] == CUT


def test_what_is_in_work_stands_on_every_line_of_the_block_and_on_none_after() -> None:
    with in_work(**about_run("0190-ab-00003", target="a")):
        with in_work(attempt=2):
            found = line()
        assert (found["job_id"], found["run_id"], found["target"]) == ("0190-ab", "0190-ab-00003", "a")
        assert found["attempt"] == 2
        assert "attempt" not in line()
        assert line(target="b")["target"] == "b", "what the line itself says counts"
    assert "run_id" not in line()


def test_a_thread_knows_what_is_in_work_where_it_was_started() -> None:
    found: list[dict[str, Any]] = []
    with in_work(run_id="j-1"):
        for work in (carried(lambda: found.append(line())), lambda: found.append(line())):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
    assert [one.get("run_id") for one in found] == ["j-1", None]


def test_a_request_names_its_run_and_job_once_its_route_is_known() -> None:
    def answer() -> None:
        scope: dict[str, Any] = {"type": "http", "method": "GET", "path": "/v1/runs/j-00001"}
        answering(scope)
        assert line()["path"] == "/v1/runs/j-00001"
        assert "run_id" not in line()
        scope["path_params"] = {"run_id": "j-00001"}
        assert (line()["job_id"], line()["run_id"]) == ("j", "j-00001")
        scope["path_params"] = {"job_id": "j"}
        assert (line()["job_id"], line().get("run_id")) == ("j", None)

    carried(answer)()
    assert "path" not in line()


def test_what_python_writes_by_itself_is_a_line_too() -> None:
    code = """
import logging, sys, threading, warnings
from services.telemetry.logs import configure_logs
configure_logs("info", ["s3cret-word"])
warnings.warn("old ways of s3cret-word")
logging.getLogger("x").info("%d", "no number")
logging.getLogger("x").warning("caf\\u00e9 \\u2192")
def die():
    raise ValueError("in a thread")
thread = threading.Thread(target=die, name="t1")
thread.start()
thread.join()
class Late:
    def __del__(self):
        raise ValueError("too late")
Late()
raise RuntimeError("s3cret-word is wrong")
"""
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, check=False)
    assert done.returncode == 1
    assert done.stdout == b""
    lines = [json.loads(each) for each in io.StringIO(done.stderr.decode("utf-8")) if each]
    assert [each["level"] for each in lines] == ["warning", "info", "warning", "critical", "error", "critical"]
    assert lines[2]["event"] == "café →"
    assert (lines[3]["thread_name"], "in a thread" in lines[3]["traceback"]) == ("t1", True)
    assert "too late" in lines[4]["traceback"]
    assert lines[5]["traceback"].strip().endswith("RuntimeError: [secret] is wrong")
    assert b"s3cret-word" not in done.stderr
