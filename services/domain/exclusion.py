"""What a person says of a run that has ended: it counts, or it is left out of rankings, and why."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field, model_validator

from engines.spec import Spec
from services.domain.text import refuse_unstorable

EXCLUSION_EXAMPLE: dict[str, Any] = {"excluded": True, "note": "somebody else used the card meanwhile"}


class Exclusion(Spec):
    """Whether a run counts where runs are held against each other. It stays in the history either way."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXCLUSION_EXAMPLE, {"excluded": False}]})

    excluded: bool
    note: Annotated[str, Field(min_length=1, max_length=1000)] | None = Field(
        default=None, description="why; goes with excluded: true"
    )

    @model_validator(mode="after")
    def _says_why(self) -> Exclusion:
        if self.excluded and self.note is None:
            raise ValueError("a run that is left out needs a note that says why")
        if not self.excluded and self.note is not None:
            raise ValueError("a note belongs to a run that is left out")
        return self

    @model_validator(mode="before")
    @classmethod
    def _is_storable(cls, value: object) -> object:
        return refuse_unstorable(value)
