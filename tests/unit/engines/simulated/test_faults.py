"""A plan of faults: what may be written, and which requests it hits."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from engines.simulated.__main__ import main
from engines.simulated.faults import ONE_FAULT, Cut, FaultBook, FaultPlan, Status


def test_each_fault_hits_every_nth_request_from_when_it_was_set() -> None:
    book = FaultBook(FaultPlan(faults=(Cut(kind="cut", every=2), Status(kind="status", every=3, status=500))))
    hits = [[fault.kind for fault in book.next_request()] for _ in range(6)]
    assert hits == [[], ["cut"], ["status"], ["cut"], [], ["cut", "status"]]
    book.replace(FaultPlan(faults=(Cut(kind="cut", every=2),)))
    assert [len(book.next_request()) for _ in range(2)] == [0, 1]


@pytest.mark.parametrize(
    "text",
    [
        '{"kind":"melt"}',
        '{"kind":"cut","every":0}',
        '{"kind":"cut","token":-1}',
        '{"kind":"status","status":200}',
        '{"kind":"stall","seconds":-1}',
        '{"kind":"stall","seconds":"NaN"}',
        '{"kind":"coalesce","tokens":1}',
        '{"kind":"cut","when":3}',
    ],
)
def test_what_is_no_fault_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        ONE_FAULT.validate_json(text)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"kind":"cut","when":3}', "--fault.cut.when: Extra inputs are not permitted"),
        ('{"kind":"melt"}', "does not match any of the expected tags: 'reset', 'status'"),
        ("cut", "--fault: Invalid JSON"),
    ],
)
def test_the_command_line_says_what_is_wrong_with_a_fault_in_one_line(
    text: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--fault", text])
    assert ended.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert told in last
    assert "errors.pydantic.dev" not in last
