"""The server that replays a timeline: what it is asked to send is sent when it should be, and the truth says so."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engines.clock import monotonic_ns, sleep_s
from engines.errors import LaunchFailed
from engines.simulated.process import running

OFFSETS_NS = [[30_000_000, 50_000_000, 50_000_000, 70_000_000], []]
EVENT_BYTES = 180


@pytest.fixture
def client(tmp_path: Path) -> Iterator[http.client.HTTPConnection]:
    timeline = tmp_path / "timeline.json"
    timeline.write_text(json.dumps({"event_bytes": EVENT_BYTES, "offsets_ns": OFFSETS_NS}))
    arguments = ["-m", "engines.simulated.replay", "--timeline", str(timeline)]
    with running("the replay", arguments, lean=True) as ready:
        connection = http.client.HTTPConnection("127.0.0.1", ready["port"], timeout=10)
        yield connection
        connection.close()


def ask(client: http.client.HTTPConnection, method: str, path: str) -> tuple[int, bytes]:
    client.request(method, path, b"x" * 3000 if method == "POST" else None)
    answer = client.getresponse()
    return answer.status, answer.read()


def truth(client: http.client.HTTPConnection) -> list[dict[str, Any]]:
    requests: list[dict[str, Any]] = json.loads(ask(client, "GET", "/truth")[1])["requests"]
    return requests


def test_tokens_leave_at_their_offsets_and_not_before(client: http.client.HTTPConnection) -> None:
    before_ns = monotonic_ns()
    status, body = ask(client, "POST", "/replay/0")
    after_ns = monotonic_ns()
    events = body.split(b"\n\n")
    assert status == 200
    assert [len(event) + 2 for event in events[:4]] == [EVENT_BYTES] * 4
    assert json.loads(events[-3].removeprefix(b"data: "))["usage"]["completion_tokens"] == 4
    assert events[-2:] == [b"data: [DONE]", b""]
    (told,) = truth(client)
    assert told["route"] == "/replay/0"
    assert told["arrival_clock"] == "kernel"
    assert told["outcome"] == "complete"
    assert before_ns <= told["arrival_ns"] <= told["token_ns"][0] <= told["end_ns"] <= after_ns
    assert len(told["token_ns"]) == 4
    # tokens of one moment leave together
    assert told["token_ns"][1] == told["token_ns"][2]
    for sent_ns, offset_ns in zip(told["token_ns"], OFFSETS_NS[0], strict=True):
        assert sent_ns >= told["arrival_ns"] + offset_ns


def test_a_connection_carries_one_request_after_another(client: http.client.HTTPConnection) -> None:
    assert ask(client, "POST", "/replay/0")[0] == 200
    assert ask(client, "POST", "/replay/1")[0] == 200
    assert [told["route"] for told in truth(client)] == ["/replay/0", "/replay/1"]
    assert len({told["local_port"] for told in truth(client)}) == 1


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/replay/2"), ("POST", "/replay/-1"), ("GET", "/replay/0"), ("POST", "/truth")]
)
def test_what_is_not_there_is_refused(client: http.client.HTTPConnection, method: str, path: str) -> None:
    assert ask(client, method, path)[0] == 404
    assert truth(client) == []


def test_a_client_that_goes_away_is_told_of(client: http.client.HTTPConnection) -> None:
    client.request("POST", "/replay/0")
    client.getresponse()
    client.close()
    deadline_ns = monotonic_ns() + 10_000_000_000
    while truth(client)[0]["outcome"] == "running":
        assert monotonic_ns() < deadline_ns
        sleep_s(0.01)
    assert truth(client)[0]["outcome"] == "client_gone"


def test_it_ends_with_its_stdin(tmp_path: Path) -> None:
    timeline = tmp_path / "timeline.json"
    timeline.write_text('{"event_bytes": 100, "offsets_ns": []}')
    reads, writes = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "engines.simulated.replay", "--timeline", str(timeline)],
        stdin=reads,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        assert json.loads(process.stdout.readline())["event"] == "ready"
        os.close(writes)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        os.close(reads)


def test_a_timeline_that_is_not_there_is_told(tmp_path: Path) -> None:
    arguments = ["-m", "engines.simulated.replay", "--timeline", str(tmp_path / "none.json")]
    with (
        pytest.raises(LaunchFailed, match="the replay did not start: FileNotFoundError"),
        running("the replay", arguments),
    ):
        pass
