"""Parameters that are checked before any route runs."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import TypeAdapter, ValidationError

from services.api.deps import Moment

MOMENT: TypeAdapter[datetime] = TypeAdapter(Moment)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC)),
        ("2026-11-23T12:00:00Z", datetime(2026, 11, 23, 12, tzinfo=UTC)),
        ("2026-11-23t12:00:00+02:00", datetime(2026, 11, 23, 10, tzinfo=UTC)),
    ],
)
def test_a_day_is_its_first_moment_in_utc(text: str, moment: datetime) -> None:
    assert MOMENT.validate_python(text) == moment


@pytest.mark.parametrize(
    "text", ["", "1763856000", "20261123", "2026-11", "2026-11-31", "2026-11-23T12:00:00", "2026-11-23 12:00:00Z"]
)
def test_what_is_neither_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        MOMENT.validate_python(text)


def test_the_document_names_both_forms() -> None:
    assert MOMENT.json_schema() == {
        "anyOf": [{"type": "string", "format": "date-time"}, {"type": "string", "format": "date"}]
    }
