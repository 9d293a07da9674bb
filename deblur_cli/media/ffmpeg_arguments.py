"""Arguments that a user has for ffmpeg, sorted by whom they are for: the encoder, or the file with all its streams."""

from __future__ import annotations

import re
from collections.abc import Sequence

from deblur_cli.errors import UsageError
from deblur_cli.media import ffmpeg
from deblur_cli.media.encoders import Container, with_parameters

# ffmpeg's own options of an output that are about the file, or about streams that are copied into it.
_OF_THE_FILE = frozenset(
    {"metadata", "map_metadata", "map_chapters", "map", "disposition", "program", "stream_group", "timestamp", "attach"}
    | {"tag", "vtag", "an", "sn", "dn", "acodec", "scodec", "dcodec", "ac", "ar", "ab", "aq", "af", "atag", "stag"}
    | {"shortest", "shortest_buf_duration", "fs", "muxdelay", "muxpreload", "max_muxing_queue_size", "timecode"}
    | {"sample_fmt", "channel_layout", "ch_layout", "streamid"}
)
# Likewise libavformat's, which every container has.
_OF_EVERY_CONTAINER = frozenset(
    {"avioflags", "packetsize", "max_delay", "start_time_realtime", "audio_preload", "chunk_duration", "chunk_size"}
    | {"flush_packets", "metadata_header_padding", "output_ts_offset", "max_interleave_delta", "avoid_negative_ts"}
)
_OF_BOTH = frozenset({"bitexact", "fflags", "flags", "strict"})


def split_arguments(words: Sequence[str], container: Container) -> tuple[list[str], list[str]]:
    """`words` for the encoding of the pictures, and those for the file that they and all other streams go into.

    The latter are options of the container's (`-movflags +faststart`), ffmpeg's own about a file (`-metadata
    title=x`, `-disposition:a:1 default`, `-an`), and all that name a stream of sound, subtitles or data (`-c:a aac
    -b:a 128k`). A few (`-bitexact`, `-strict`) are for both. Everything else is for the encoder.

    Raises:
        UsageError: as `options` does.
    """
    encoding: list[str] = []
    file: list[str] = []
    known = _OF_THE_FILE | _OF_EVERY_CONTAINER | ffmpeg.muxer_options(container.format)
    for option in options(words):
        name, _, streams = option[0].removeprefix("-").partition(":")
        if name in _OF_BOTH and not streams:
            encoding += option
            file += option
        elif name in known or re.match(r"[asdt](:|$)", streams):
            file += option
        else:
            encoding += option
    return encoding, file


def merged(arguments: Sequence[str], words: Sequence[str]) -> tuple[list[str], list[str]]:
    """An encoder's `arguments` with the parameters that `words` have for it (`-x265-params`), and the other words.

    Of such an option given twice ffmpeg takes the last alone, and HDR10 data in the first would be lost. Within one,
    what comes later counts.

    Raises:
        UsageError: as `options` does.
    """
    encoding = list(arguments)
    others: list[str] = []
    for option in options(words):
        name = option[0].removeprefix("-").partition(":")[0]
        if name.endswith("-params") and f"-{name}" in encoding and len(option) == 2:
            encoding = with_parameters(encoding, name, option[1])
        else:
            others += option
    return encoding, others


def options(words: Sequence[str]) -> list[list[str]]:
    """Each option with its value, if it has one.

    Raises:
        UsageError: a word is neither an option nor the value of one; ffmpeg would write to a file of that name.
    """
    found: list[list[str]] = []
    for word in words:
        if re.match(r"-[a-zA-Z]", word):
            found.append([word])
        elif found and len(found[-1]) == 1:
            found[-1].append(word)
        else:
            raise UsageError(f"'{word}' in the arguments for ffmpeg is neither an option nor the value of one")
    return found
