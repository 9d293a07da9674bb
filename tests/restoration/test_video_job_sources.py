"""Videos that are not what they seem: turned, from running or broken clocks, with misleading names, with alpha."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from PIL import Image

from deblur_cli.errors import VideoError
from deblur_cli.media.probe import probe
from deblur_cli.media.video_join import timestamps
from deblur_cli.restoration import video_job, video_outputs
from deblur_cli.restoration.restorer import Restorer
from deblur_cli.restoration.video_job import restore_video
from deblur_cli.restoration.video_outputs import VideoSettings
from tests.media.video_samples import H264, PICTURE, TONE, make, sound_times
from tests.restoration.networks import Apply, loaded

pytestmark = pytest.mark.usefixtures("one_thread")

QUICKLY = VideoSettings(preset="ultrafast")


def restorer() -> Restorer:
    return Restorer("test-tiny", device="cpu", precision="fp32")


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize(("flip", "kind"), [(False, "mp4"), (True, "mp4"), (True, "ts")])
def test_the_blurred_half_is_on_the_left_of_what_is_shown(turn: int, flip: bool, kind: str, tmp_path: Path) -> None:
    plain = make(tmp_path / "plain.mp4", "-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.1", *H264)
    shown_as = ["-display_rotation", str(turn), *(["-display_hflip"] if flip else [])]
    turned = make(tmp_path / "turned.mp4", *shown_as, "-i", plain, "-c", "copy")
    settings = VideoSettings(preset="ultrafast", crf=1)
    inverting = Restorer(loaded(Apply(lambda blurred: 1 - blurred)), device="cpu", precision="fp32")
    restore_video(turned, tmp_path / f"whole.{kind}", inverting, settings)
    restore_video(turned, tmp_path / f"both.{kind}", inverting, replace(settings, compare=True))
    # A transport stream knows of no rotation, and shows frames as they are stored.
    names = ("turned.mp4" if kind == "mp4" else "plain.mp4", f"whole.{kind}", f"both.{kind}")
    for name in names:
        make(tmp_path / f"{name}.png", "-i", tmp_path / name, "-frames:v", "1")
    blurred, restored, both = (
        np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB")).astype(int) for name in names
    )
    left = slice(0, both.shape[1] // 2 - 8)
    right = slice(both.shape[1] // 2 + 8, None)
    assert np.abs(restored - blurred).mean() > 5
    assert np.abs(both[:, left] - blurred[:, left]).mean() < 3
    assert np.abs(both[:, right] - restored[:, right]).mean() < 3


def test_a_clip_from_hours_into_a_running_clock_begins_at_once_elsewhere(tmp_path: Path) -> None:
    source = make(
        tmp_path / "tuner.ts", *PICTURE, *TONE, *H264, "-c:a", "aac", "-output_ts_offset", "40000", "-muxdelay", "0"
    )
    assert timestamps(source)[0] > 39_999
    for name in ("clip.mp4", "clip.mkv"):
        restore_video(source, tmp_path / name, restorer(), QUICKLY)
        found, before = timestamps(tmp_path / name), timestamps(source)
        assert found[0] < 0.1
        assert max(abs(a - found[0] - b + before[0]) for a, b in zip(found, before, strict=True)) <= Fraction(1, 1000)
        heard, sounds = sound_times(tmp_path / name), sound_times(source)
        assert sounds[0] < before[0]
        assert max(abs(a - found[0] - b + before[0]) for a, b in zip(heard, sounds, strict=True)) <= Fraction(1, 500)
    restore_video(source, tmp_path / "clip.ts", restorer(), QUICKLY)
    assert timestamps(tmp_path / "clip.ts")[0] > 39_999


def test_a_clip_from_where_a_broadcasts_clock_runs_over_keeps_its_times(tmp_path: Path) -> None:
    around = ("-output_ts_offset", f"{2**33 / 90_000 - 0.4:.3f}", "-muxdelay", "0")
    source = make(tmp_path / "tuner.ts", *PICTURE, *TONE, *H264, "-c:a", "aac", *around)
    before, sounds = timestamps(source), sound_times(source)
    assert before[0] < 0
    for name in ("clip.ts", "clip.mp4", "clip.mkv"):
        restore_video(source, tmp_path / name, restorer(), QUICKLY)
        found, heard = timestamps(tmp_path / name), sound_times(tmp_path / name)
        later = found[0] - before[0]
        assert max(abs(a - b - later) for a, b in zip(found, before, strict=True)) <= Fraction(1, 1000)
        assert max(abs(a - b - later) for a, b in zip(heard, sounds, strict=True)) <= Fraction(1, 500)
    restore_video(source, tmp_path / "part.mp4", restorer(), replace(QUICKLY, start=0.2, end=0.4))
    assert len(timestamps(tmp_path / "part.mp4")) == 5


def test_frames_that_are_not_where_they_were_are_never_taken_for_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make(tmp_path / "clip.mp4", *PICTURE, *H264)
    monkeypatch.setattr(video_outputs, "timestamps", lambda path: [Fraction(0)] * len(timestamps(path)))
    with pytest.raises(VideoError, match=r"encoding moves frames by up to 0\.560 seconds; it must not"):
        restore_video(source, tmp_path / "out.mp4", restorer(), QUICKLY)
    assert not (tmp_path / "out.mp4").exists()


def test_a_clock_that_begins_again_midway_is_refused(tmp_path: Path) -> None:
    long = ("-f", "lavfi", "-i", "testsrc2=s=32x32:r=30:d=3")
    one = make(tmp_path / "one.ts", *long, *H264)
    (tmp_path / "both.ts").write_bytes(2 * one.read_bytes())
    with pytest.raises(VideoError, match=r"clock goes back from 4\.\d to \d\.\d seconds.*-c copy OUT\.mkv"):
        restore_video(tmp_path / "both.ts", tmp_path / "out.mp4", restorer(), QUICKLY)
    whole = make(tmp_path / "whole.mkv", "-i", tmp_path / "both.ts", "-c", "copy")
    assert restore_video(whole, tmp_path / "out.mp4", restorer(), QUICKLY).frames == 180


def test_words_of_damage_in_names_and_titles_are_no_damage(tmp_path: Path) -> None:
    tags = ("-metadata", "title=EOF in a partial file [error] ", "-metadata", "comment=corrupt decoded frame")
    source = make(tmp_path / "truncated.mp4", *PICTURE, *H264, *tags)
    result = restore_video(source, tmp_path / "out.mp4", restorer(), QUICKLY)
    assert (result.damaged, result.undecodable, result.repeated) == (None, 0, 0)


def test_a_folder_with_a_line_break_in_its_name(tmp_path: Path) -> None:
    clip = make(tmp_path / "clip.mp4", *PICTURE, *H264)
    folder = tmp_path / "day 1\nmorning's\r\n"
    folder.mkdir()
    restore_video(clip, folder / "a\nb.mp4", restorer(), QUICKLY)
    assert timestamps(folder / "a\nb.mp4") == timestamps(clip)


@pytest.mark.parametrize(("codec", "lines"), [("flv", 1), ("libx264", 0)])
def test_a_flash_video_whose_clock_begins_later_is_said_to(codec: str, lines: int, tmp_path: Path) -> None:
    source = make(tmp_path / "in.flv", *PICTURE, "-c:v", codec)
    told = restore_video(source, tmp_path / "out.flv", restorer(), VideoSettings()).warnings
    (later,) = {one - other for one, other in zip(timestamps(tmp_path / "out.flv"), timestamps(source), strict=True)}
    line = f"the clock's zero: all streams are shown {float(later) * 1000:.0f} milliseconds later"
    assert told == (line,) * lines and (later > 0) == bool(lines)


def test_a_part_of_a_transport_stream_is_not_said_to_be_shown_later(tmp_path: Path) -> None:
    source = make(tmp_path / "in.ts", *PICTURE, *TONE, *H264, "-c:a", "aac")
    # Encoded with frames that are decoded before they are shown, which is what the muxer makes room for.
    assert restore_video(source, tmp_path / "out.ts", restorer(), VideoSettings(start=0.3)).warnings == ()


def test_alpha_is_said_of_a_webm_whose_source_was_none(tmp_path: Path) -> None:
    transparent = ("-vf", "format=yuva444p10,colorchannelmixer=aa=0.5")
    source = make(tmp_path / "logo.mov", *PICTURE, *transparent, "-c:v", "prores_ks", "-pix_fmt", "yuva444p10le")
    restore_video(source, tmp_path / "logo.webm", restorer(), VideoSettings(crf=30))
    assert probe(tmp_path / "logo.webm").video.pixels.alpha


@pytest.mark.parametrize(("kind", "key"), [("mov", "timecode"), ("mkv", "TIMECODE")])
def test_a_part_has_the_time_code_of_its_first_frame(tmp_path: Path, kind: str, key: str) -> None:
    reel = make(tmp_path / "reel.mov", *PICTURE, *H264, "-timecode", "10:00:00:20")
    source = reel if kind == "mov" else make(tmp_path / "reel.mkv", "-i", reel, "-map", "0:v", "-c", "copy")
    assert probe(source).metadata[key] == "10:00:00:20"
    # At 25 frames a second, the first at or after 0.21 seconds is number 6.
    for settings, code in ((QUICKLY, "10:00:00:20"), (replace(QUICKLY, start=0.21), "10:00:01:01")):
        for target in (tmp_path / "out.mov", tmp_path / "out.mkv"):
            restore_video(source, target, restorer(), settings)
            tags = [*probe(target).metadata.items(), *probe(target).file_metadata.items()]
            assert {value for name, value in tags if name.lower() == "timecode"} == {code}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("in.ogv", ("-c:v", "libtheora", "-c:a", "libvorbis", "-page_duration", "200000")),
        ("in.mkv", (*H264, "-c:a", "pcm_s16le", "-avoid_negative_ts", "disabled")),
    ],
)
def test_sound_from_before_the_clock_s_zero_moves_nothing(name: str, options: tuple[str, ...], tmp_path: Path) -> None:
    early = ("-itsoffset", "-0.2") if name == "in.mkv" else ()
    source, target = make(tmp_path / name, *PICTURE, *early, *TONE, *options), tmp_path / "out.mkv"
    assert sound_times(source)[0] < 0
    assert restore_video(source, target, restorer(), QUICKLY).warnings == ()
    assert timestamps(target) == timestamps(source, decode=True)
    heard = zip(sound_times(source), sound_times(target), strict=True)
    assert max(abs(one - other) for one, other in heard) < Fraction(1, 400), "to whole milliseconds"


@pytest.mark.parametrize(("rate", "frames", "why"), [(25, 1, "a single frame"), (480, 5, "480 frames a second")])
def test_a_time_code_that_no_track_can_count_is_said_and_ends_nothing(
    rate: int, frames: int, why: str, tmp_path: Path
) -> None:
    given = ("-f", "lavfi", "-i", f"testsrc2=s=64x48:r={rate}", "-frames:v", str(frames))
    source = make(tmp_path / "in.mkv", *given, *H264, "-metadata", "timecode=10:00:00:20")
    result = restore_video(source, tmp_path / "out.mp4", restorer(), QUICKLY)
    assert (result.frames, result.warnings) == (frames, (f"the time code: not written for {why}",))
    assert restore_video(source, tmp_path / "out.mkv", restorer(), QUICKLY).warnings == ()


def test_files_that_come_into_a_folder_of_pictures_meanwhile_stay(tmp_path: Path) -> None:
    clip, folder = make(tmp_path / "clip.mp4", *PICTURE, *H264), tmp_path / "pictures"

    def progress(done: int, expected: int | None) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "diary.txt").write_text("mine")

    with pytest.raises(VideoError, match="other files have come there meanwhile"):
        restore_video(clip, folder, restorer(), VideoSettings(pictures=True), progress=progress)
    assert (folder / "diary.txt").read_text() == "mine"
    (folder / "diary.txt").unlink()
    assert restore_video(clip, folder, restorer(), VideoSettings(pictures=True)).before == 15
    assert len(list(folder.glob("*.png"))) == 15


def test_a_source_that_goes_away_is_not_taken_for_a_target_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make(tmp_path / "in.mp4", *PICTURE, *H264)

    def gone(path: Path) -> NoReturn:
        path.unlink()
        path.read_bytes()
        raise AssertionError

    monkeypatch.setattr(video_job, "fingerprint", gone)
    with pytest.raises(VideoError, match=r"in\.mp4: cannot be read \(No such file or directory\)"):
        restore_video(source, tmp_path / "out" / "a.mp4", restorer(), QUICKLY)
    assert list(tmp_path.iterdir()) == []
