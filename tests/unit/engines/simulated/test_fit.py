"""The committed parameters are what the fit gives; they meet the rows they are fitted on and predict the others."""

from __future__ import annotations

import pytest

from engines.simulated.fit import fit_all, predict, prediction_table
from engines.simulated.profiles import FITTED, PROFILES
from engines.simulated.published import ROWS, PublishedRow


def name(row: PublishedRow) -> str:
    return f"{row.profile}-{row.requests}x{row.input_tokens}"


def test_the_committed_parameters_are_what_the_fit_gives() -> None:
    again = fit_all()
    assert set(again) == set(FITTED)
    for engine, fitted in again.items():
        assert fitted.prefill_efficiency == pytest.approx(FITTED[engine].prefill_efficiency, rel=1e-3)
        assert fitted.decode_efficiency == pytest.approx(FITTED[engine].decode_efficiency, rel=1e-3)
        assert fitted.overhead_s == pytest.approx(FITTED[engine].overhead_s, rel=1e-3)


def test_efficiencies_are_shares() -> None:
    for fitted in FITTED.values():
        assert 0 < fitted.prefill_efficiency < 1
        assert 0 < fitted.decode_efficiency < 1
        assert fitted.overhead_s > 0


@pytest.mark.parametrize("row", [row for row in ROWS if row.fitted], ids=name)
def test_fitted_rows_are_met(row: PublishedRow) -> None:
    assert predict(row) == pytest.approx(row.published, rel=0.05)


@pytest.mark.parametrize("row", [row for row in ROWS if not row.fitted], ids=name)
def test_held_out_rows_are_predicted(row: PublishedRow) -> None:
    assert predict(row) == pytest.approx(row.published, rel=0.15)


def test_what_is_held_out_is_what_was_promised() -> None:
    held_out = [(row.input_tokens, row.published) for row in ROWS if not row.fitted]
    assert held_out == [(6144, 80.70), (14336, 77.69), (30720, 70.33)]


def test_the_table_names_every_row_and_its_miss() -> None:
    table = prediction_table()
    assert table.count("held out") == 3
    assert table.count("fitted") == 3
    assert table.count("%") == len(ROWS)


def test_profiles_hold_their_models_with_room_for_a_batch() -> None:
    for profile in PROFILES.values():
        assert profile.kv_capacity_tokens > 128 * (267 + 128)
        assert profile.name.startswith(profile.engine)
    assert PROFILES["tgi-mistral-7b"].max_concurrent_requests == 128
