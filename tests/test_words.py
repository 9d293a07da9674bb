"""Words that every room needs."""

from __future__ import annotations

from deblur_cli import words


def test_only_one_alone_is_singular() -> None:
    assert [words.counted(number, "pair") for number in (0, 1, 2, "1", "1/9")] == [
        "0 pairs",
        "1 pair",
        "2 pairs",
        "1 pair",
        "1/9 pairs",
    ]
