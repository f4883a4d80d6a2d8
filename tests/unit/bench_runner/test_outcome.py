"""What a run keeps of what its target said: no token, and nothing that no database can carry."""

from __future__ import annotations

import base64
import json

from bench_runner.errors import LoadFailed, RunCancelled, TargetFailed
from bench_runner.measure.summary import RunFacts
from bench_runner.outcome import MOST_RAW_BYTES, RAW_GAP, Notebook
from bench_runner.plan.spec import RunSpec
from engines.clock import utc_now
from engines.contract import Failure, FailureKind
from tests.fakes.jobs import run_spec
from tests.fakes.records import make_record

TOKEN = "tok-SECRET"


def notebook(spec: RunSpec | None = None) -> Notebook:
    return Notebook(spec or run_spec(), utc_now(), redact=lambda text: text.replace(TOKEN, "[redacted]"))


def test_no_token_and_no_half_character_gets_into_a_result() -> None:
    book = notebook()
    book.environment = {"server": {"version": f"v {TOKEN}\x00\ud800", TOKEN: [TOKEN]}}
    book.notes.append(f"it said {TOKEN}")
    failed = make_record(0, failure=FailureKind.REJECTED)
    book.keep(failed, f"HTTP/1.1 401 no\r\n\r\n{TOKEN}".encode() + b"\xff\xfe")
    outcome = book.close(TargetFailed(f"401: {TOKEN}", failure=Failure(FailureKind.REJECTED, TOKEN, 401)))
    rows = list(outcome.record_rows())
    text = json.dumps([outcome.result.to_json(), rows], ensure_ascii=False)
    assert TOKEN not in text
    assert "\x00" not in text
    text.encode("utf-8")
    raw = base64.b64decode(rows[0]["raw_base64"])
    assert TOKEN.encode() not in raw
    assert raw.endswith(b"[redacted]\xff\xfe")


def test_raw_responses_are_kept_of_failures_and_of_all_on_request() -> None:
    book = notebook()
    book.keep(make_record(0), b"fine")
    book.keep(make_record(1, failure=FailureKind.TIMEOUT), b"head" + b"x" * MOST_RAW_BYTES + b"tail")
    book.keep(make_record(2, failure=FailureKind.CONNECT), b"")
    assert {index: len(raw) for index, raw in book.raw.items()} == {1: MOST_RAW_BYTES + len(RAW_GAP)}
    assert (book.raw[1][:4], book.raw[1][-4:]) == (b"head", b"tail")
    thorough = notebook(run_spec().model_copy(update={"keep_raw": True}))
    thorough.keep(make_record(0), b"fine")
    assert thorough.raw == {0: b"fine"}


def test_a_run_that_never_measured_says_why() -> None:
    refused = notebook().close(TargetFailed("down", failure=Failure(FailureKind.CONNECT, "down"))).result
    assert (refused.outcome, refused.failures) == ("failed", {"connect": 1})
    assert [reason.code for reason in refused.validity.reasons] == ["target_failed"]
    cancelled = notebook().close(RunCancelled("stop")).result
    assert (cancelled.outcome, cancelled.failures) == ("cancelled", {})
    assert [reason.code for reason in cancelled.validity.reasons] == ["cancelled"]
    broken = notebook().close(LoadFailed("no descriptors")).result
    assert [reason.code for reason in broken.validity.reasons] == ["run_failed"]
    assert {refused.validity.state, cancelled.validity.state, broken.validity.state} == {"INVALID"}


def test_an_early_end_keeps_what_was_measured() -> None:
    book = notebook()
    book.facts = RunFacts("burst")
    book.keep(make_record(0), b"")
    outcome = book.close(RunCancelled("stop"))
    assert outcome.result.summary["successes"] == 1
    assert outcome.error is not None
