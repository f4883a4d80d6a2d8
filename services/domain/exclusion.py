"""What a person says of a run that has ended: it counts, or it is left out of rankings, and why."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator

from engines.spec import Spec
from services.domain.text import refuse_unstorable

EXCLUSION_EXAMPLE: dict[str, Any] = {"excluded_note": "somebody else used the card meanwhile"}


class Exclusion(Spec):
    """Whether a run counts where runs are held against each other. It stays in the history either way."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXCLUSION_EXAMPLE, {"excluded_note": None}]})

    excluded_note: Annotated[str, Field(min_length=1, max_length=1000)] | None = Field(
        description="why it is left out of rankings; null: it counts"
    )

    @model_validator(mode="before")
    @classmethod
    def _is_storable(cls, value: object) -> object:
        return refuse_unstorable(value)
