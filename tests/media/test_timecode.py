"""Time codes against counting by hand."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur_cli.media.timecode import moved_on

NTSC = Fraction(30000, 1001)


def counted(rate: int, dropped: int, mark: str, length: int) -> list[str]:
    """The codes of the first `length` frames, one after the other."""
    codes = []
    for second in range(length):
        skip = dropped if second % 60 == 0 and (second // 60) % 10 else 0
        codes += [f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}{mark}{n:02}" for n in range(skip, rate)]
    return codes


@pytest.mark.parametrize(
    ("rate", "dropped", "mark"), [(Fraction(25), 0, ":"), (NTSC, 2, ";"), (2 * NTSC, 4, ";"), (NTSC, 0, ":")]
)
def test_each_frame_follows_the_one_before(rate: Fraction, dropped: int, mark: str) -> None:
    codes = counted(round(rate), dropped, mark, 21 * 60)
    assert [moved_on(codes[0], number, rate) for number in range(len(codes))] == codes
    assert moved_on(codes[777], 20_000, rate) == codes[20_777]


def test_after_a_day_it_begins_again() -> None:
    assert moved_on("23:59:59:24", 1, Fraction(25)) == "00:00:00:00"
    assert moved_on("23:59:59;29", 1, NTSC) == "00:00:00;00"
    assert moved_on("00:00:59;29", 1, NTSC) == "00:01:00;02"


def test_an_hour_of_dropped_frames_is_an_hour() -> None:
    assert moved_on("10:00:00;00", round(3600 * NTSC), NTSC) == "11:00:00;00"


@pytest.mark.parametrize("code", ["", "10:00:00", "1:00:00:00", "10:00:00:25", "noon"])
def test_what_is_no_time_code_is_none(code: str) -> None:
    assert moved_on(code, 1, Fraction(25)) is None


@given(frames=st.integers(0, 10**7), more=st.integers(0, 10**5), mark=st.sampled_from(":;"))
def test_two_moves_are_one(frames: int, more: int, mark: str) -> None:
    half_way = moved_on(f"01:02:03{mark}04", frames, NTSC)
    assert half_way is not None
    assert moved_on(half_way, more, NTSC) == moved_on(f"01:02:03{mark}04", frames + more, NTSC)
