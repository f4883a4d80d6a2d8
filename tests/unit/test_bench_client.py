"""What the bench of the client makes of its repeats."""

from __future__ import annotations

from tests.calibration.bench_client import _medians
from tests.calibration.soak import tell


def test_a_figure_is_a_median_and_a_word_is_every_word_that_was_said() -> None:
    rows = [
        {"late_s": 3.0, "validity": "INVALID", "reasons": ("client_cpu",), "priority": None},
        {"late_s": 1.0, "validity": "VALID", "reasons": (), "priority": None},
        {"late_s": 2.0, "validity": "VALID", "reasons": ("send_lag", "client_cpu"), "priority": "realtime"},
    ]
    assert _medians(rows) == {
        "late_s": 2.0,
        "validity": "INVALID+VALID",
        "reasons": ["client_cpu", "send_lag"],
        "priority": "realtime",
    }


def soaked(state: str, *codes: str, error: str | None = None) -> dict[str, object]:
    reasons = dict.fromkeys(codes, "in words")
    return {"shape": "burst", "state": state, "reasons": reasons, "notes": [], "error": error, "calibrated": False,
            "control": None}  # fmt: skip


def test_a_soak_tells_the_machine_from_a_false_alarm() -> None:
    told = tell(
        [
            soaked("VALID"),
            soaked("INCONCLUSIVE", "send_lag", "client_cpu"),
            soaked("INCONCLUSIVE", "client_cpu", "foreign_traffic"),
            soaked("INVALID", error="the engine is gone"),
        ]
    )
    assert (told["runs"], told["valid"]) == (4, 1)
    assert told["by_machine"] == {"send_lag": 1, "client_cpu": 1}
    assert [list(one["reasons"]) for one in told["false_alarms"]] == [["client_cpu", "foreign_traffic"], []]
