from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench_runner.errors import DatasetError
from bench_runner.plan.spec import Trace
from bench_runner.plan.trace import TraceRow, read_trace

OFFSETS = (
    '{"offset_s": 0.5, "input_tokens": 100, "output_tokens": 20}\n\n{"offset_s": 0.5}\n'
    '{"offset_s": 3, "output_tokens": 7}\n'
)
MOONCAKE = (
    '{"timestamp": 27482, "input_length": 6955, "output_length": 52, "hash_ids": [46, 47]}\n'
    '{"timestamp": 30535.5, "input_length": 6472, "output_length": 26, "hash_ids": []}\n'
)
AZURE = (
    "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"
    "2023-11-16 18:15:46.6805900,374,44\r\n"
    "2023-11-16 18:15:50.9951690,396,109\r\n"
)


@pytest.fixture
def trace(tmp_path: Path) -> Any:
    def write(content: str | bytes, form: str = "offsets", **more: Any) -> Trace:
        path = tmp_path / "trace.file"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return Trace.model_validate({"path": str(path), "format": form} | more)

    return write


def test_own_offsets_start_with_the_window(trace: Any) -> None:
    assert read_trace(trace(OFFSETS)) == (
        TraceRow(0.5, 100, 20),
        TraceRow(0.5, None, None),
        TraceRow(3.0, None, 7),
    )


def test_mooncake_s_start_with_their_first_row(trace: Any) -> None:
    first, second = read_trace(trace(MOONCAKE, "mooncake"))
    assert first == TraceRow(0.0, 6955, 52)
    assert second.offset_s == pytest.approx(3.0535)
    assert (second.input_tokens, second.output_tokens) == (6472, 26)


def test_azure_s_start_with_their_first_row(trace: Any) -> None:
    first, second = read_trace(trace(AZURE, "azure"))
    assert first == TraceRow(0.0, 374, 44)
    assert second.offset_s == pytest.approx(4.314579, abs=1e-5)
    assert (second.input_tokens, second.output_tokens) == (396, 109)


def test_azure_s_later_form_has_a_zone_and_more_columns(trace: Any) -> None:
    text = (
        '"TIMESTAMP", NumImages, GeneratedTokens, ContextTokens\n2024-05-10 23:59:59.5+00:00,1,5,900\n'
        '"2024-05-11 00:00:00.009930+00:00",0, 6, 901\n'
    )
    first, second = read_trace(trace(text, "azure"))
    assert first == TraceRow(0.0, 900, 5)
    assert second.offset_s == pytest.approx(0.50993)
    assert (second.input_tokens, second.output_tokens) == (901, 6)


def test_time_is_scaled(trace: Any) -> None:
    assert [row.offset_s for row in read_trace(trace(OFFSETS, time_scale=0.5))] == [0.25, 0.25, 1.5]


def test_only_what_is_needed_is_read(trace: Any) -> None:
    broken = trace(OFFSETS + "nonsense\n")
    assert len(read_trace(broken, most=2)) == 2
    assert len(read_trace(broken, duration_s=3)) == 2
    with pytest.raises(DatasetError, match="line 5: not JSON"):
        read_trace(broken)
    assert len(read_trace(trace(OFFSETS), most=9)) == 3


@pytest.mark.parametrize(
    ("form", "content", "message"),
    [
        ("offsets", "", "there is no request in it"),
        ("offsets", "\n  \n", "there is no request in it"),
        ("offsets", '{"offset_s": 1}\n{"offset_s": 0.5}\n', "line 2: its moment is before that of the row above"),
        ("offsets", '{"offset_s": -1}', "line 1: offset_s must be a number from 0"),
        ("offsets", '{"offset_s": NaN}', "line 1: offset_s must be"),
        ("offsets", '{"offset_s": Infinity}', "line 1: offset_s must be"),
        ("offsets", '{"offset_s": 1' + "0" * 400 + "}", "line 1: offset_s must be"),
        ("offsets", '{"offset_s": true}', "line 1: offset_s must be"),
        ("offsets", '{"offset_s": 2e9}', "line 1: .*30 years"),
        ("offsets", "{}", "line 1: offset_s must be"),
        ("offsets", "[]", "line 1: not a JSON object"),
        ("offsets", "{", "line 1: not JSON: .* at column"),
        ("offsets", "[" * 100_000, "line 1: not JSON"),
        ("offsets", '{"offset_s": 0, "tokens": 3}', "line 1: unknown field 'tokens'; known are offset_s, input_tokens"),
        ("offsets", '{"offset_s": 0, "input_tokens": 0}', "line 1: input_tokens must be a whole number from 1"),
        ("offsets", '{"offset_s": 0, "output_tokens": 1.5}', "line 1: output_tokens must be a whole number"),
        ("offsets", '{"offset_s": 0}\n{"offset_s": "1"}', "line 2: offset_s must be"),
        ("offsets", b'{"offset_s": 0}\n\xff\n', "line 2: not UTF-8"),
        ("offsets", b" " * (2**20 + 1), "line 1: longer than"),
        ("mooncake", '{"timestamp": 0, "input_length": 5}', "line 1: output_length must be a whole number"),
        ("mooncake", '{"input_length": 5, "output_length": 5}', "line 1: timestamp must be a number"),
        ("azure", "", "line 1: no column TIMESTAMP"),
        ("azure", "TIMESTAMP,ContextTokens\n", "line 1: no column GeneratedTokens"),
        ("azure", "TIMESTAMP,ContextTokens,GeneratedTokens\n", "there is no request in it"),
        ("azure", AZURE + "yesterday,1,2\n", "line 4: TIMESTAMP is no date and time"),
        ("azure", AZURE + "2023-11-16 18:16:00,1\n", "line 4: 2 columns where the first line names 3"),
        ("azure", AZURE + "2023-11-16 18:16:00,one,2\n", "line 4: ContextTokens must be a whole number"),
        ("azure", AZURE + "2023-11-16 18:16:00,1,-2\n", "line 4: GeneratedTokens must be a whole number"),
        ("azure", AZURE + '2023-11-16 18:16:00,"1,2\n', "line 4: not CSV"),
    ],
)
def test_mistakes_name_file_and_line_and_repeat_nothing(
    trace: Any, form: str, content: str | bytes, message: str
) -> None:
    spec = trace(content, form)
    with pytest.raises(DatasetError, match=message) as caught:
        read_trace(spec)
    assert str(caught.value).startswith(f"trace {spec.path}")
    assert caught.value.field == "workload.arrival.path"
    assert "yesterday" not in str(caught.value)


def test_nothing_within_the_duration(trace: Any) -> None:
    with pytest.raises(DatasetError, match=r"no request in it within 0\.1 s"):
        read_trace(trace(OFFSETS), duration_s=0.1)


def test_files_that_are_none(tmp_path: Path) -> None:
    for path, reason in ((tmp_path, "not a regular file"), (tmp_path / "none", "cannot be read: No such file")):
        with pytest.raises(DatasetError, match=reason):
            read_trace(Trace(path=str(path)))
    with pytest.raises(DatasetError, match="cannot be read"):
        read_trace(Trace(path="a\0b"))
