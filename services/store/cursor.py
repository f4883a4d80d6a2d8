"""Keyset pagination: a cursor names the last row shown, so that rows which come in between shift nothing."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, RowMapping, Select, and_, or_, select

from services.domain.errors import BadInput, Problem
from services.store.tables import UtcTime, Words

#: Most rows of one page, whatever is asked for.
LARGEST_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Keyset:
    """An order of rows without ties: by `column`, then by `key`. Rows without a value in `column` come last."""

    #: name of the order, kept in its cursors
    sort: str
    column: Column[Any]
    key: Column[str]
    descending: bool

    def page(
        self, connection: Connection, query: Select[Any], limit: int, cursor: str | None
    ) -> tuple[list[RowMapping], str | None]:
        """The rows that follow `cursor`, and the cursor of what follows them; `None`: nothing does."""
        limit = max(1, min(limit, LARGEST_PAGE))
        if cursor is not None:
            query = query.where(self._after(*self._decode(cursor)))
        value, key = (self.column.desc(), self.key.desc()) if self.descending else (self.column, self.key)
        order = [value, key] if not self.column.nullable else [self.column.is_(None), value, key]
        # Keys alone are sorted, so that of a long list only the page's own rows are read whole.
        chosen = query.with_only_columns(self.key).order_by(*order).limit(limit + 1).subquery()
        whole = query.where(self.key.in_(select(chosen.c[self.key.name]))).order_by(*order)
        rows = list(connection.execute(whole).mappings())
        if len(rows) <= limit:
            return rows, None
        last = rows[limit - 1]
        return rows[:limit], self._encode(last[self.column], last[self.key])

    def _after(self, value: Any, key: str) -> ColumnElement[bool]:
        past_key = self.key < key if self.descending else self.key > key
        if value is None:
            return and_(self.column.is_(None), past_key)
        past = self.column < value if self.descending else self.column > value
        here = or_(past, and_(self.column == value, past_key))
        return or_(here, self.column.is_(None)) if self.column.nullable else here

    def _encode(self, value: Any, key: str) -> str:
        plain = value.isoformat() if isinstance(value, datetime) else value
        return base64.urlsafe_b64encode(json.dumps([self.sort, plain, key]).encode()).decode().rstrip("=")

    def _decode(self, cursor: str) -> tuple[Any, str]:
        try:
            padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
            sort, value, key = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
            value = self._value(value)
            if not isinstance(key, str) or not isinstance(sort, str):
                raise ValueError("not a key")
        except (ValueError, TypeError, OverflowError, RecursionError):
            raise _refusal("is not a cursor of this list") from None
        if sort != self.sort:
            raise _refusal(f"was given for the sort {sort!r}, not for {self.sort!r}")
        return value, key

    def _value(self, value: Any) -> Any:
        match self.column.type, value:
            case _, None if self.column.nullable:
                return None
            case UtcTime(), str():
                moment = datetime.fromisoformat(value)
                if moment.tzinfo is None:
                    raise ValueError("a time without a zone")
                return moment
            case Words(), str():
                return value
            case (UtcTime() | Words(), _) | (_, bool()):
                raise ValueError("not this column's kind of value")
            case _, int() | float() if math.isfinite(value) and abs(value) < 2**63:
                return value
        raise ValueError("not a sort value")


def _refusal(problem: str) -> BadInput:
    return BadInput(Problem("cursor", problem, "leave it out for the first page, then give the page's next"))
