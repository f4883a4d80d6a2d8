"""The published tables, as data of the project."""

from __future__ import annotations

import pytest

from bench_runner.references.published import load_references, read_reference

ROW = {"table": "t", "source": "s", "engine": "vllm", "model": "m", "hardware": "A100", "workload": "w"}


def test_the_three_tables_are_there() -> None:
    rows = load_references()
    tables = [row.table for row in rows]
    assert tables.count("mistral-7b-a100-engines") == 3
    assert tables.count("qwen2.5-7b-a100-speed") == 40
    assert tables.count("rtx4060-transformers-single-prompt") == 2
    assert len(rows) == 45


def test_the_a100_table_as_published() -> None:
    rows = {row.engine: row for row in load_references() if row.table == "mistral-7b-a100-engines"}
    assert {engine: row.duration_s for engine, row in rows.items()} == {"bud": 4.88, "vllm": 7.05, "tgi": 6.91}
    assert rows["vllm"].total_input_tokens == 101 * 267
    assert rows["bud"].total_input_tokens == 101 * 270
    assert rows["tgi"].total_output_tokens == 12_750
    assert rows["vllm"].precision is None


def test_every_table_says_where_it_is_from_and_inconsistencies_are_noted() -> None:
    for row in load_references():
        assert row.source
        if row.num_prompts and row.total_input_tokens and row.total_input_tokens % row.num_prompts:
            assert row.note is not None
            assert "101" in row.note


def test_a_row_with_another_field_is_refused() -> None:
    assert read_reference(ROW).duration_s is None
    with pytest.raises(ValueError, match="unknown fields: speed"):
        read_reference(ROW | {"speed": 1})
    with pytest.raises(ValueError, match="lacks a field"):
        read_reference({"table": "t"})
