"""What cannot be stored is found wherever it hides."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.domain.text import fault_in_text, faults, storable

sound = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("k"), inner, max_size=1),
    max_leaves=10,
)


@given(sound)
def test_what_json_and_every_database_can_carry_is_sound(value: object) -> None:
    assert list(faults(value)) == []
    assert storable(value) == value


@pytest.mark.parametrize("bad", ["\x00", "a\x00b", "\ud800", "\udfff x", 2**63, -(2**80), math.nan, math.inf])
def test_anything_else_is_named_with_its_path(bad: object) -> None:
    assert [path for path, _ in faults({"a": [1, {"b": bad}]})] == ["a.1.b"]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("\x00", "\ufffd"),
        ("v\ud800", "v?"),
        (math.nan, None),
        (-math.inf, None),
        ({"\x00": ("\udfff",)}, {"\ufffd": ["?"]}),
    ],
)
def test_what_an_engine_said_is_made_storable(said: object, kept: object) -> None:
    assert storable([said]) == [kept]
    assert list(faults(storable({"a": said}))) == []


def test_keys_are_looked_at_too() -> None:
    assert [path for path, _ in faults({"a": {"\x00": 1}})] == ["a"]


def test_nesting_has_an_end() -> None:
    deep: list[object] = []
    for _ in range(10_000):
        deep = [deep]
    ((_, fault),) = faults(deep)
    assert "nested" in fault


def test_a_plain_text_has_no_fault() -> None:
    assert fault_in_text("größer 漢字 🚀\n") is None
