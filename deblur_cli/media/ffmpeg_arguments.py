"""Arguments that a user has for ffmpeg, sorted by whom they are for: the encoder, or the file with all its streams."""

from __future__ import annotations

import re
from collections.abc import Sequence

from deblur_cli.errors import UsageError
from deblur_cli.media import ffmpeg
from deblur_cli.media.encoders import Container, with_parameters

# ffmpeg's own options of an output that are about the file, or about streams that are copied into it.
_OF_THE_FILE = frozenset(
    {"metadata", "map_metadata", "map_chapters", "disposition", "program", "stream_group", "timestamp", "attach"}
    | {"tag", "vtag", "an", "sn", "dn", "acodec", "scodec", "dcodec", "ac", "ar", "ab", "aq", "af", "atag", "stag"}
    | {"shortest", "shortest_buf_duration", "muxdelay", "muxpreload", "max_muxing_queue_size", "timecode"}
    | {"sample_fmt", "channel_layout", "ch_layout", "streamid"}
)
# Likewise libavformat's, which every container has.
_OF_EVERY_CONTAINER = frozenset(
    {"avioflags", "packetsize", "max_delay", "start_time_realtime", "audio_preload", "chunk_duration", "chunk_size"}
    | {"flush_packets", "metadata_header_padding", "max_interleave_delta", "avoid_negative_ts"}
)
_OF_BOTH = frozenset({"bitexact", "fflags", "flags", "strict"})
# Options that have no value: a word behind one of them is a file to write.
_FLAGS = frozenset(
    {"an", "sn", "dn", "shortest", "bitexact", "copyts", "copyinkf", "autorotate", "autoscale", "fix_sub_duration"}
    | {"xerror", "stats", "benchmark", "benchmark_all", "ignore_unknown", "copy_unknown", "hide_banner", "stdin", "re"}
    | {"dump", "hex", "debug_ts", "force_fps", "accurate_seek", "seek_timestamp", "find_stream_info"}
    | {"fix_sub_duration_heartbeat", "recast_media", "auto_conversion_filters", "print_graphs"}
)
# How streams of a kind are called in an option's name, and the options that are about such streams without that.
_OF_KIND = {
    "audio": ("a", frozenset({"acodec", "ac", "ar", "ab", "aq", "af", "sample_fmt", "channel_layout", "ch_layout"})),
    "subtitle": ("s", frozenset({"scodec"})),
}
# What makes of an MP4 file one of fragments.
_FRAGMENTS = re.compile(r"(?<!-)\b(frag_(keyframe|every_frame|custom)|empty_moov|dash|cmaf|hybrid_fragmented)\b")
_TIMES = "each frame keeps its own time"
_ELSEWHERE = "it writes to another file"
# Options under which the file would not have the frames that were restored, when they were, which is noticed when all
# is done; and those by which ffmpeg would write elsewhere. Each with what to do instead.
_REFUSED = {
    **dict.fromkeys(("ss", "sseof"), "--start says where to begin"),
    **dict.fromkeys(("t", "to"), "--end says where to end"),
    **dict.fromkeys(("frames", "vframes", "aframes", "dframes", "fs"), "--end says where to end"),
    **dict.fromkeys(("r", "fps_mode", "vsync", "enc_time_base", "output_ts_offset", "start_at_zero"), _TIMES),
    **dict.fromkeys(("y", "n"), "--overwrite says whether a file is written over"),
    "i": "deblur's own INPUT is the input",
    **dict.fromkeys(("f", "target"), "the suffix of --output says which kind of file it is"),
    "vcodec": "--codec says which the video gets",
    "map": "all streams go along; -an, -sn and -dn leave those of a kind out",
    "vn": "the video is what is restored",
    **dict.fromkeys(("filter_complex", "filter_complex_script", "lavfi"), "-vf takes filters"),
    **dict.fromkeys(("pass", "passlogfile"), "a video is encoded in one pass, in segments"),
    **dict.fromkeys(("report", "progress", "vstats", "vstats_file", "sdp_file", "print_graphs_file"), _ELSEWHERE),
    **dict.fromkeys(("stats_enc_pre", "stats_enc_post", "stats_mux_pre"), _ELSEWHERE),
}
# Filters that would do what those options do; of others that make more or fewer frames their number tells.
_NO_FILTERS = frozenset(
    {"setpts", "fps", "framerate", "minterpolate", "reverse", "random", "shuffleframes", "trim", "loop", "tpad"}
    | {"framestep", "decimate", "mpdecimate"}
)


def split_arguments(words: Sequence[str], container: Container) -> tuple[list[str], list[str]]:
    """`words` for the encoding of the pictures, and those for the file that they and all other streams go into.

    The latter are options of the container's (`-movflags +faststart`), ffmpeg's own about a file (`-metadata
    title=x`, `-disposition:a:1 default`, `-an`), and all that name a stream of sound, subtitles or data (`-c:a aac
    -b:a 128k`). A few (`-bitexact`, `-strict`) are for both. Everything else is for the encoder. A file in fragments is
    given one more option, under which it keeps timestamps. `-movflags` adds to what the file has already.

    Raises:
        UsageError: as `options` does.
    """
    encoding: list[str] = []
    file: list[str] = []
    known = _OF_THE_FILE | _OF_EVERY_CONTAINER | ffmpeg.muxer_options(container.format)
    for option in options(words):
        name, _, streams = option[0].removeprefix("-").partition(":")
        if name == "movflags" and option[1][:1] not in {"+", "-"}:
            # Without a sign it would put out what others have set, such as that cameras' own metadata are written.
            option[1] = f"+{option[1]}"
        if name in _OF_BOTH and not streams:
            encoding += option
            file += option
        elif name in known or re.match(r"[asdt](:|$)", streams):
            file += option
        else:
            encoding += option
    if any(_is_fragmenting(option) for option in options(file)):
        # An index that is written ahead of the first frame does not know by how much decoding comes before showing, and
        # all frames would be shown so much later.
        file += ["-movflags", "+delay_moov"]
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


def left_out(words: Sequence[str]) -> tuple[frozenset[str], list[str]]:
    """The kinds of streams that `words` leave out of the file (`-an`, `-sn`, `-dn`), and the other words.

    Options that are numbered by the places of streams count only those that are in the file, which ffmpeg's own way of
    leaving streams out knows nothing of.

    Raises:
        UsageError: as `options` does.
    """
    kinds = {"-an": "audio", "-sn": "subtitle", "-dn": "data"}
    given = options(words)
    others = [word for option in given if option[0] not in kinds for word in option]
    return frozenset(kinds[option[0]] for option in given if option[0] in kinds), others


def value_of(name: str, words: Sequence[str]) -> str | None:
    """The last value that `words` have for the pictures' option `name`; None where they have none.

    Raises:
        UsageError: as `options` does.
    """
    found = [option[1] for option in options(words) if _is_of_pictures(name, option)]
    return found[-1] if found else None


def filters(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """The filters that `words` have for the pictures (`-vf`, `-filter:v`; the last counts), and the other words.

    Raises:
        UsageError: as `options` does.
    """
    given = options(words)
    ours = [option for option in given if any(_is_of_pictures(name, option) for name in ("vf", "filter"))]
    others = [word for option in given if option not in ours for word in option]
    return ours[-1][1] if ours else None, others


def pixels_of(words: Sequence[str]) -> str | None:
    """The pixel format that `words` ask for: by `-pix_fmt`, or by the filter that theirs end with (`-vf
    hflip,format=yuv420p`).

    Raises:
        UsageError: as `options` does.
    """
    last = re.search(r"(?:^|[,;\]])\s*format=(?:pix_fmts=)?(\w+)\s*(?:\[\w*\]\s*)?$", filters(words)[0] or "")
    return value_of("pix_fmt", words) or (last[1] if last else None)


def is_rated(words: Sequence[str]) -> bool:
    """Whether `words` tell the encoder of the pictures a bit rate or a fixed quantiser (`-b:v 2M`, `-qp 0`).

    Encoders with a constant quality (`-crf`) have no use for `-q`, and a bit rate of zero is none.

    Raises:
        UsageError: as `options` does.
    """
    return value_of("qp", words) is not None or value_of("b", words) not in {None, "0"}


def of_stream(kind: str, number: int, words: Sequence[str]) -> list[str]:
    """What of `words` says how stream `number` of a kind in the file is encoded, for a file without any other stream.

    The kinds are `audio` and `subtitle`, each counted from zero; of others nothing is said.

    Raises:
        UsageError: as `options` does.
    """
    letter, general = _OF_KIND.get(kind, ("", frozenset()))
    found: list[str] = []
    for option in options(words):
        name, _, streams = option[0].removeprefix("-").partition(":")
        if letter and streams in {letter, f"{letter}:{number}"}:
            found += [f"-{name}:{letter}", *option[1:]]
        elif name in general or (letter and name == "strict" and not streams):
            found += option
    return found


def options(words: Sequence[str]) -> list[list[str]]:
    """Each option with its value, if it has one.

    Raises:
        UsageError: a word is neither an option nor the value of one (ffmpeg would write to a file of that name), an
            option has no value, or it can only do harm here.
    """
    found: list[list[str]] = []
    for word in words:
        if re.match(r"-[a-zA-Z]", word):
            _check(word)
            _check_whole(found)
            found.append([word])
        elif found and len(found[-1]) == 1 and not _is_flag(found[-1][0]):
            found[-1].append(word)
            _check_filters(*found[-1])
        else:
            raise UsageError(f"'{word}' in the arguments for ffmpeg is neither an option nor the value of one")
    _check_whole(found)
    return found


def _is_of_pictures(name: str, option: Sequence[str]) -> bool:
    """Whether an option and its value are of the pictures' option `name`."""
    return len(option) == 2 and re.fullmatch(rf"-{name}(:[vV0](:0)?)?", option[0]) is not None


def _is_fragmenting(option: Sequence[str]) -> bool:
    """Whether an option and its value make of an MP4 file one of fragments."""
    if option[0] == "-movflags":
        return bool(_FRAGMENTS.search(option[-1]))
    return option[0] in {"-frag_duration", "-frag_size"}


def _is_flag(option: str) -> bool:
    name = option.removeprefix("-").partition(":")[0]
    return name in _FLAGS or name.removeprefix("no") in _FLAGS


def _check(option: str) -> None:
    """Raise for an option that is not the user's to give here."""
    name, _, streams = option.removeprefix("-").partition(":")
    if name in {"c", "codec"} and re.match(r"([vV0](:|$)|$)", streams):
        name = "vcodec"
    if name in _REFUSED:
        raise UsageError(f"'{option}' cannot be among the arguments for ffmpeg: {_REFUSED[name]}")


def _check_whole(found: Sequence[Sequence[str]]) -> None:
    """Raise where the last option that was found wants a value and has none: the next word would become it."""
    if found and len(found[-1]) == 1 and not _is_flag(found[-1][0]):
        raise UsageError(f"'{found[-1][0]}' in the arguments for ffmpeg has no value behind it")


def _check_filters(option: str, value: str) -> None:
    """Raise for filters of the pictures that would show them in another order or at other times."""
    if not re.fullmatch(r"-(vf|filter)(:[vV0].*)?", option):
        return
    plain = re.sub(r"\\.|'[^']*'", "", value, flags=re.DOTALL)
    for name in re.findall(r"(?:^|[,;\]])\s*(\w+)", plain):
        if name in _NO_FILTERS:
            raise UsageError(f"'{option} {value}' cannot be among the arguments for ffmpeg: {_TIMES}, without '{name}'")
