"""Keys and roles."""

from __future__ import annotations

import pytest

from services.domain.key import Role, digest_of, draw_key, id_in, is_key


def test_a_role_may_what_the_ones_before_it_may() -> None:
    covered = {role: [wanted for wanted in Role if role.covers(wanted)] for role in Role}
    assert covered == {
        Role.READ: [Role.READ],
        Role.RUN: [Role.READ, Role.RUN],
        Role.ADMIN: [Role.READ, Role.RUN, Role.ADMIN],
    }


def test_a_key_says_whose_it_is_and_no_two_are_alike() -> None:
    drawn = [draw_key() for _ in range(100)]
    assert len({text for _, text in drawn}) == 100
    for key_id, text in drawn:
        assert text.startswith(f"ebk_{key_id}_")
        assert len(text) == len("ebk_") + 12 + 1 + 43
        assert id_in(text) == key_id


@pytest.mark.parametrize("text", ["", "ebk_", "a key", "ebk_0123456789ab_", "ebk_0123456789AB_" + "a" * 43, "\u00e9"])
def test_other_texts_have_no_id(text: str) -> None:
    assert id_in(text) is None


def test_no_line_end_passes_behind_a_key() -> None:
    assert id_in(draw_key()[1] + "\n") is None


def test_a_digest_fits_its_text_alone() -> None:
    _, text = draw_key()
    digest = digest_of(text)
    assert is_key(text, digest)
    assert not is_key(text[:-1], digest)
    assert not is_key(digest, digest)
