"""Which of a file's own metadata (title, place, maker …) containers have room for."""

from __future__ import annotations

import re
from collections.abc import Mapping

STATISTICS = re.compile(r"BPS|NUMBER_OF_(FRAMES|BYTES)|DURATION|_STATISTICS_|encoder$", re.IGNORECASE)
"""Names of what is said about a file or a stream as it was; many of them are written by mkvmerge."""
BRANDS = frozenset({"major_brand", "minor_version", "compatible_brands"})
_OF_FFMPEG = re.compile(r"Lav[fc]\d")
_LANGUAGE = re.compile(r"-[a-z]{3}$")
# What ffmpeg's muxers write; those that are not here write anything under any name. A transport stream has no place but
# for the name of a programme, as which the title goes; ffmpeg itself does not read all that it writes to 3GP.
_HELD = {
    "mp4": "title artist album_artist composer album date comment genre copyright grouping lyrics description synopsis "
    "show episode_id network keywords episode_sort season_number media_type hd_video gapless_playback compilation "
    "track disc location creation_time timecode",
    "mov": "title artist album date comment genre copyright location make model creation_time timecode",
    "3gp": "title artist author album date comment genre copyright location creation_time",
    "mpegts": "title service_name service_provider",
    "avi": "title artist album product date comment genre copyright track encoded_by timecode",
}


def unheld(tags: Mapping[str, str], muxer: str) -> list[str]:
    """The names of those among the metadata `tags` of a file that the one that ffmpeg's `muxer` writes has not.

    What is about the old file itself (its encoder, brands, statistics) is not counted.
    """
    if muxer not in _HELD:
        return []
    held, names = _HELD[muxer].split(), []
    for name, value in tags.items():
        key = _LANGUAGE.sub("", name.lower())
        if key in BRANDS or STATISTICS.match(name) or _OF_FFMPEG.match(value):
            continue
        if muxer == "3gp" and key == "date" and not re.fullmatch(r"\d{4}", value):
            names.append(f"{name} (but for its year)")
        elif key not in held and not (muxer == "avi" and re.fullmatch("I[A-Z]{3}", name)):
            # RIFF's own names are four letters.
            names.append(name)
    return names
