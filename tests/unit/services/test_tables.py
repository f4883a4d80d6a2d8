"""Tables of the command line show what people named things, whatever they named them."""

from __future__ import annotations

import pytest

from services.cli.service import print_table


def test_brackets_are_text_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("jobs [/b]", ("name", "url"), [("see [/b]", "http://[fe80::1%25lo]:80"), (None, "[red]x[/red]")])
    shown = capsys.readouterr().out
    for text in ("jobs [/b]", "see [/b]", "http://[fe80::1%25lo]:80", "[red]x[/red]", "–"):
        assert text in shown
