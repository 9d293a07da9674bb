"""Which arguments for ffmpeg go to the encoder, and which to the file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur_cli.errors import UsageError
from deblur_cli.media.encoders import CONTAINERS
from deblur_cli.media.ffmpeg_arguments import (
    filters,
    is_rated,
    merged,
    of_stream,
    pixels_of,
    split_arguments,
    value_of,
)

ENCODER = [
    "-tune film",
    "-x264-params keyint=3:bframes=0",
    "-g 12",
    "-b:v 2M",
    "-pix_fmt yuv444p",
    "-bf -1",
    "-vf hflip",
]
FILE = [
    "-movflags +faststart",
    "-metadata title=x",
    "-metadata:s:v:0 rotate=-90",
    "-disposition:a:1 default",
    "-c:a aac",
    "-b:a 128k",
    "-an",
    "-map_chapters -1",
    "-tag:v avc3",
    "-brand mp42",
    "-avoid_negative_ts disabled",
]


@given(st.lists(st.sampled_from(ENCODER + FILE)))
def test_each_goes_where_it_belongs_with_its_value_in_the_order_given(options: list[str]) -> None:
    words = [word for option in options for word in option.split()]
    encoding, file = split_arguments(words, CONTAINERS[".mp4"])
    assert encoding == [word for option in options if option in ENCODER for word in option.split()]
    assert file == [word for option in options if option in FILE for word in option.split()]


def test_options_of_a_container_are_the_ones_that_it_has() -> None:
    words = ["-cues_to_front", "1", "-movflags", "+faststart"]
    assert split_arguments(words, CONTAINERS[".mkv"]) == (words[2:], words[:2])
    assert split_arguments(words, CONTAINERS[".mov"]) == (words[:2], words[2:])


def test_some_are_for_both() -> None:
    assert split_arguments(["-bitexact", "-flags:v", "+bitexact"], CONTAINERS[".mp4"]) == (
        ["-bitexact", "-flags:v", "+bitexact"],
        ["-bitexact"],
    )


def test_parameters_of_an_encoder_are_joined_to_those_it_has_and_all_else_is_left_as_it_is() -> None:
    arguments = ["libx265", "-crf", "19", "-x265-params", "log-level=error:max-cll=1000,400"]
    others = ["-tune", "grain", "-x264-params", "keyint=3", "-crf", "30"]
    words = [*others[:2], "-x265-params", "aq-mode=3:max-cll=0,0", *others[2:], "-x265-params:v", "ref=2"]
    joined = "log-level=error:max-cll=1000,400:aq-mode=3:max-cll=0,0:ref=2"
    assert merged(arguments, words) == ([*arguments[:-1], joined], others)
    assert merged(["libx264", "-crf", "17"], words) == (["libx264", "-crf", "17"], words)


@pytest.mark.parametrize(
    "words",
    [
        ["out.mp4"],
        ["-tune", "film", "out.mp4"],
        ["-"],
        ["-crf", "3", "4"],
        [""],
        ["-an", "out.mp4"],
        ["-noxerror", "o"],
        ["-copyinkf:v", "victim.mkv"],
        ["-debug_ts", "stray.mp4"],
        ["-force_fps", "stray.mp4"],
    ],
)
def test_a_word_that_ffmpeg_would_take_for_a_file_to_write_is_refused(words: list[str]) -> None:
    with pytest.raises(UsageError, match="neither an option nor the value of one"):
        split_arguments(words, CONTAINERS[".mp4"])


@pytest.mark.parametrize(
    ("words", "instead"),
    [
        *((f"{option} 1", "--start") for option in ("-ss", "-sseof")),
        *((f"{option} 1", "--end") for option in ("-t", "-to", "-frames:v", "-vframes", "-aframes", "-dframes", "-fs")),
        *((f"{option} 25", "its own time") for option in ("-r", "-r:v", "-fps_mode", "-vsync", "-output_ts_offset")),
        *((f"{option} out2.mp4", "--overwrite") for option in ("-y", "-n")),
        *((f"{option} libx264", "--codec") for option in ("-c", "-codec", "-c:v", "-codec:v:0", "-c:0", "-vcodec")),
        ("-i other.mp4", "INPUT"),
        ("-f matroska", "--output"),
        ("-map 1:v", "-sn"),
        ("-vn", "the video"),
        ("-pass 1", "one pass"),
        ("-filter_complex hflip", "-vf"),
        ("-progress log.txt", "another file"),
    ],
)
def test_what_could_only_fail_at_the_end_or_write_elsewhere_is_refused(words: str, instead: str) -> None:
    with pytest.raises(UsageError, match=f"^'{words.split()[0]}' cannot be among .*{instead}"):
        split_arguments(["-tune", "film", *words.split()], CONTAINERS[".mp4"])


@pytest.mark.parametrize("words", ["-tune", "-crf -tune film", "-tune film -crf", "-vf -an", "-movflags"])
def test_an_option_without_its_value_is_named(words: str) -> None:
    with pytest.raises(UsageError, match=r"^'-(tune|crf|vf|movflags)' .* has no value behind it$"):
        split_arguments(words.split(), CONTAINERS[".mp4"])


@pytest.mark.parametrize(
    "graph",
    ["reverse", "setpts=2*PTS", "hflip,trim=end_frame=5", "[in]loop=2:5:0[out]", "hflip, fps@a=5", "hflip;random"],
)
@pytest.mark.parametrize("option", ["-vf", "-filter:v", "-filter:v:0"])
def test_filters_that_would_move_frames_are_refused(option: str, graph: str) -> None:
    with pytest.raises(UsageError, match=f"^'{option} .* cannot be among .* its own time, without '"):
        split_arguments([option, graph], CONTAINERS[".mp4"])


@pytest.mark.parametrize(
    "words", ["-vf drawtext=text='a,reverse'", "-vf drawtext=text=a\\,reverse", "-af areverse", "-filter:a loop=1:9"]
)
def test_what_only_looks_like_such_a_filter_is_let_pass(words: str) -> None:
    encoding, file = split_arguments(words.split(), CONTAINERS[".mp4"])
    assert encoding + file == words.split()


def test_a_codec_of_another_stream_and_a_value_like_an_option_refused_are_let_pass() -> None:
    words = ["-c:a", "aac", "-codec:s", "mov_text", "-metadata", "t", "-an"]
    assert split_arguments(words, CONTAINERS[".mp4"]) == ([], words)


def test_the_last_value_for_the_pictures_counts() -> None:
    words = ["-pix_fmt", "yuv420p", "-an", "-pix_fmt:v", "yuv444p", "-pix_fmt:s", "pal8", "-pix_fmt_of", "x"]
    assert value_of("pix_fmt", words) == "yuv444p"
    assert value_of("pix_fmt", words[2:3]) is None


def test_the_last_filters_for_the_pictures_count_and_are_told_from_all_else() -> None:
    words = ["-vf", "hflip", "-tune", "film", "-filter:v:0", "vflip", "-filter:a", "volume=2", "-filter_threads", "1"]
    assert filters(words) == ("vflip", ["-tune", "film", *words[6:]])
    assert filters(words[:4]) == ("hflip", words[2:4])
    assert filters(words[6:]) == (None, words[6:])


def test_flags_of_a_file_are_added_to_the_ones_it_has() -> None:
    words = ["-movflags", "faststart+write_colr", "-movflags", "+faststart"]
    assert split_arguments(words, CONTAINERS[".mov"]) == ([], ["-movflags", "+faststart+write_colr", *words[2:]])


@pytest.mark.parametrize(
    ("words", "rated"),
    [
        ("-b:v 2M", True),
        ("-tune film -b:v:0 2M", True),
        ("-qp 0", True),
        ("-b:v 0", False),
        ("-b:a 128k", False),
        ("-q:v 2", False),
    ],
)
def test_a_bit_rate_or_quantiser_of_the_pictures_is_told_from_what_encoders_do_not_heed(
    words: str, rated: bool
) -> None:
    assert is_rated(words.split()) == rated


def test_of_a_stream_are_the_options_of_its_kind_and_number() -> None:
    given = "-c:a libopus -codec:a:1 ac3 -ac 2 -c:s srt -metadata:s:a:0 title=x -strict -2 -ab 64k -bsf:a:0 null"
    words = given.split(" ")
    assert " ".join(of_stream("audio", 0, words)) == "-c:a libopus -ac 2 -strict -2 -ab 64k -bsf:a null"
    assert " ".join(of_stream("audio", 1, words)) == "-c:a libopus -codec:a ac3 -ac 2 -strict -2 -ab 64k"
    assert of_stream("subtitle", 0, words) == ["-c:s", "srt", "-strict", "-2"]
    assert of_stream("data", 0, words) == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-pix_fmt", "yuv444p", "-vf", "format=yuv420p"], "yuv444p"),
        (["-vf", "hflip,format=yuv420p"], "yuv420p"),
        (["-vf", "[in]hflip[a];[a]format=pix_fmts=yuv420p10le[out]"], "yuv420p10le"),
        (["-vf", "format=gbrp,hflip"], None),
        (["-vf", "hflip"], None),
        ([], None),
    ],
)
def test_pixels_are_asked_for_by_name_or_by_the_last_filter(words: list[str], expected: str | None) -> None:
    assert pixels_of(words) == expected
