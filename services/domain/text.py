"""What no database and no wire can carry: NUL, half a surrogate pair, numbers without end. Refused at the door."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from pydantic_core import PydanticCustomError

#: Whole numbers beyond this have no column in any database we speak to.
LARGEST_INTEGER = 2**63 - 1
#: Nothing a person writes is nested deeper.
DEEPEST_NESTING = 32


def fault_in_text(text: str) -> str | None:
    """What makes a text impossible to store, in words; `None` where nothing does."""
    if "\x00" in text:
        return "holds a NUL character"
    if any("\ud800" <= character <= "\udfff" for character in text):
        return "holds half a surrogate pair, which is not a character"
    return None


def faults(value: object, path: str = "", depth: int = 0) -> Iterator[tuple[str, str]]:
    """(path, fault in words) of everything below `value` that could be parsed but not stored."""
    if depth > DEEPEST_NESTING:
        yield path, f"is nested deeper than {DEEPEST_NESTING} levels"
        return
    match value:
        case bool() | None:
            return
        case str():
            fault = fault_in_text(value)
            if fault is not None:
                yield path, fault
        case int():
            if abs(value) > LARGEST_INTEGER:
                yield path, "is a whole number beyond 64 bits"
        case float():
            if not math.isfinite(value):
                yield path, "is not a finite number"
        case dict():
            for key, item in value.items():
                fault = fault_in_text(str(key))
                if fault is not None:
                    yield path, f"has a key that {fault}"
                    continue
                yield from faults(item, f"{path}.{key}" if path else str(key), depth + 1)
        case list() | tuple():
            for position, item in enumerate(value):
                yield from faults(item, f"{path}.{position}" if path else str(position), depth + 1)


def refuse_unstorable(value: object) -> object:
    """A Pydantic "before" validator: `value` itself, or an error naming the first thing that cannot be stored."""
    for path, fault in faults(value):
        raise PydanticCustomError("unstorable", "{fault}", {"path": path, "fault": fault})
    return value


def storable(value: Any) -> Any:
    """Plain JSON types as every database and every answer can carry them, for what an engine may have said.

    NUL becomes U+FFFD, half a surrogate pair "?", a number without an end `None`.
    """
    match value:
        case str():
            return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode("utf-8")
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {storable(key): storable(item) for key, item in value.items()}
        case list() | tuple():
            return [storable(item) for item in value]
        case _:
            return value
