"""Time codes of frames, `HH:MM:SS:FF`, moved on by a number of frames; SMPTE ST 12-1.

At 30/1.001 frames a second counting would fall behind the clock by 3.6 seconds an hour, so drop-frame counting leaves
out the numbers 00 and 01 (at 60/1.001: 00 to 03) at the beginning of each minute but every tenth. It is written with
`;` or `.` before the frames.
"""

from __future__ import annotations

import re
from fractions import Fraction

_CODE = re.compile(r"(\d\d):(\d\d):(\d\d)([:;.])(\d\d)")


def moved_on(code: str, frames: int, rate: Fraction) -> str | None:
    """The time code of the frame that comes `frames` after the one of `code`, at `rate` frames a second.

    None where `code` is none, or counts frames that such a rate does not have. After 24 hours it begins again.
    """
    found = _CODE.fullmatch(code)
    a_second = round(rate)
    if not found or int(found[5]) >= a_second:
        return None
    hours, minutes, seconds, number = (int(found[group]) for group in (1, 2, 3, 5))
    dropped = a_second // 15 if found[4] != ":" and a_second % 30 == 0 else 0
    whole_minutes = 60 * hours + minutes
    count = (60 * whole_minutes + seconds) * a_second + number - dropped * (whole_minutes - whole_minutes // 10)
    count += frames
    # Back: ten minutes are always as many frames, their first minute is a full one, the others are shorter.
    ten, left = divmod(count, 600 * a_second - 9 * dropped)
    one = max(0, (left - dropped) // (60 * a_second - dropped)) if dropped else 0
    seconds, number = divmod(count + dropped * (9 * ten + one), a_second)
    return f"{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{found[4]}{number:02}"
