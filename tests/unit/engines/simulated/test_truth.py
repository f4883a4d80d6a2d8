"""The truth log keeps the last requests and goes on counting."""

from __future__ import annotations

from engines.simulated.truth import TruthLog, TruthRecord


def record(port: int) -> TruthRecord:
    return TruthRecord(0, port, "completions", True, 100, "kernel", 10, 0, 3, 3)


def test_memory_is_bounded_and_indices_go_on() -> None:
    log = TruthLog(2)
    for port in (1, 2, 3):
        log.open(record(port))
    told = log.since(0)
    assert [r["index"] for r in told["requests"]] == [1, 2]
    assert (told["next"], told["forgotten"]) == (3, 1)
    assert log.since(2)["requests"][0]["local_port"] == 3
    assert log.since(3) | {"requests": None} == told | {"requests": None, "forgotten": 0}


def test_a_record_tells_first_and_last_token() -> None:
    told = record(1)
    assert told.to_json(tokens=True)["first_token_ns"] is None
    told.token_ns.extend([200, 300, 450])
    fields = told.to_json(tokens=True)
    assert (fields["first_token_ns"], fields["last_token_ns"], fields["generated_tokens"]) == (200, 450, 3)
    assert fields["token_ns"] == [200, 300, 450]
    assert "token_ns" not in told.to_json(tokens=False)
