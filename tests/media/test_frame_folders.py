"""Frames of a video as numbered pictures, in and out; and how videos and such folders are found and named."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deblur_cli.errors import UsageError, VideoError
from deblur_cli.media.frame_folders import (
    TIMESTAMPS,
    FrameFolderReader,
    FrameFolderWriter,
    is_frame_folder,
    is_replaceable,
    numbered_pictures,
    write_timestamps,
)
from deblur_cli.media.gather import gather_videos
from deblur_cli.media.materials import video_extension
from deblur_cli.media.plan import EXISTS, plan_videos


def pixels(number: int, channels: int = 3, dtype: type = np.uint8) -> np.ndarray:
    generator = np.random.default_rng(number)
    return generator.integers(0, np.iinfo(dtype).max + 1, (4, 6, channels), dtype=dtype)


def folder_of(path: Path, count: int, channels: int = 3, dtype: type = np.uint8) -> Path:
    writer = FrameFolderWriter(path)
    for number in range(count):
        writer.write(pixels(number, channels, dtype))
    return path


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_what_is_written_is_read_bit_by_bit(tmp_path: Path, channels: int, dtype: type) -> None:
    reader = FrameFolderReader(folder_of(tmp_path / "a", 3, channels, dtype))
    assert reader.video.pixels.depth == np.iinfo(dtype).bits and reader.video.pixels.alpha == (channels == 4)
    frames = list(reader)
    assert [frame.pts * reader.video.time_base for frame in frames] == [0, Fraction(1, 25), Fraction(2, 25)]
    for number, frame in enumerate(frames):
        green, blue, red, *alpha = frame.planes
        assert np.array_equal(np.dstack([red, green, blue, *alpha]), pixels(number, channels, dtype))


def test_numbers_decide_the_order_and_gaps_are_no_frames(tmp_path: Path) -> None:
    for number in (2, 10, 9):
        Image.fromarray(pixels(number)).save(tmp_path / f"shot1_{number}.png")
    assert [path.name for path in numbered_pictures(tmp_path)] == ["shot1_2.png", "shot1_9.png", "shot1_10.png"]


def test_numbers_that_come_twice_have_one_order_however_the_folder_lists_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["01.png", "1.png", "02.png"]
    for listed in (names, names[::-1]):
        monkeypatch.setattr(Path, "iterdir", lambda folder, listed=listed: (folder / name for name in listed))
        assert [path.name for path in numbered_pictures(tmp_path)] == names


@pytest.mark.parametrize("names", [["1.png"], ["1.png", "2.jpg"], ["a1.png", "b2.png"], ["a.png", "b.png"], []])
def test_other_folders_are_not_frames_of_a_video(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        Image.fromarray(pixels(0)).save(tmp_path / name)
    assert not is_frame_folder(tmp_path)


def test_a_camera_folder_with_videos_in_it_is_no_frames_of_one(tmp_path: Path) -> None:
    for name in ("IMG_0001.JPG", "IMG_0002.JPG", "._MVI_0002.MP4", "MVI_0003.MP4"):
        (tmp_path / name).write_bytes(b"x")
    assert numbered_pictures(tmp_path) == []
    assert [found.path.name for found in gather_videos([str(tmp_path)]).files] == ["MVI_0003.MP4"]
    (tmp_path / "MVI_0003.MP4").unlink()
    assert is_frame_folder(tmp_path)


@pytest.mark.parametrize(("below", "text"), [("", "."), ("sub", ".."), ("sub", "../sub/.."), ("", "sub/..")])
def test_a_folder_of_frames_has_a_name_however_it_is_given(
    below: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shots = folder_of(tmp_path / "shots", 2)
    (shots / "sub").mkdir()
    monkeypatch.chdir(shots / below)
    for output, target in ((None, tmp_path / "shots_deblurred.mp4"), ("out", Path("out/shots.mp4"))):
        (item,) = plan_videos(gather_videos([text]), output=output).items
        assert (item.source, item.target, item.action) == (shots.resolve(), target, "restore")


def test_times_beside_the_pictures_are_kept_and_a_rate_overrules_them(tmp_path: Path) -> None:
    folder_of(tmp_path, 3)
    times = [Fraction(0), Fraction(1, 30), Fraction(7, 90)]
    write_timestamps(tmp_path, times)
    reader = FrameFolderReader(tmp_path)
    found = [frame.pts * reader.video.time_base for frame in reader]
    assert max(abs(one - other) for one, other in zip(found, times, strict=True)) <= Fraction(1, 10**6)
    fast = FrameFolderReader(tmp_path, rate=Fraction(50))
    assert [frame.pts * fast.video.time_base for frame in fast] == [0, Fraction(1, 50), Fraction(1, 25)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("# timestamp format v2\n0\n40\n", "2 frames"),
        ("# timestamp format v2\n0\n40\n40\n", "increase"),
        ("# timestamp format v2\n0\nx\n50\n", "'x' is no time"),
        ("# timestamp format v2\n0\n1/0\n50\n", "'1/0' is no time"),
        ("# timestamp format v2\n0\n40\n1e30\n", "'1e30' is no time"),
        ("# timestamp format v2\n-40\n0\n40\n", "'-40' is no time in milliseconds from zero on"),
        ("0\n40\n80\n90\n", "format 2"),
    ],
)
def test_times_that_cannot_be_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    folder_of(tmp_path, 3)
    (tmp_path / TIMESTAMPS).write_text(text)
    with pytest.raises(VideoError, match=reason):
        FrameFolderReader(tmp_path)


def test_start_and_end_are_in_seconds(tmp_path: Path) -> None:
    reader = FrameFolderReader(folder_of(tmp_path, 6), start=0.04, end=0.16)
    assert [frame.pts for frame in reader] == [1, 2, 3] and reader.count == 3
    with pytest.raises(UsageError):
        FrameFolderReader(tmp_path, start=1.0, end=1.0)


@pytest.mark.parametrize(
    ("start", "end", "shown"),
    [
        (5, 8, [(5, 1)]),
        (5, 15, [(5, 1), (9, 2)]),
        (8.96, None, [(9, 2)]),  # no longer without a picture than a film is
        (4, 9, [(4, 1)]),
        (0, 3, [(0, 0)]),
        (10, None, [(10, 2)]),
        (14.5, None, []),  # the last picture stays for five seconds
    ],
)
def test_a_part_begins_with_the_picture_that_is_on_the_screen(
    tmp_path: Path, start: float, end: float | None, shown: list[tuple[float, int]]
) -> None:
    folder_of(tmp_path, 3)
    (tmp_path / TIMESTAMPS).write_text("# timestamp format v2\n0\n4000\n9000\n")
    reader = FrameFolderReader(tmp_path, start=start, end=end)
    tick = reader.video.time_base
    found = [(frame.pts * tick, np.dstack([frame.planes[each] for each in (2, 0, 1)])) for frame in reader]
    assert [time for time, _ in found] == [Fraction(time) for time, _ in shown]
    for (_, picture), (_, number) in zip(found, shown, strict=True):
        assert np.array_equal(picture, pixels(number))


def test_a_broken_picture_is_replaced_by_the_one_before_and_counted(tmp_path: Path) -> None:
    folder_of(tmp_path, 4)
    (tmp_path / "000003.png").write_bytes((tmp_path / "000003.png").read_bytes()[:40])
    reader = FrameFolderReader(tmp_path)
    frames = list(reader)
    assert reader.undecodable == 1 and [frame.pts for frame in frames] == [0, 1, 2, 3]
    assert [frame.repeated for frame in frames] == [False, False, True, False]
    assert all(np.array_equal(one, other) for one, other in zip(frames[1].planes, frames[2].planes, strict=True))


def test_a_picture_of_another_size_is_an_error(tmp_path: Path) -> None:
    folder_of(tmp_path, 2)
    Image.fromarray(np.zeros((4, 7, 3), np.uint8)).save(tmp_path / "000003.png")
    with pytest.raises(VideoError, match="7×4 pixels, where the first has 6×4"):
        list(FrameFolderReader(tmp_path))


def test_pictures_of_another_kind_are_brought_to_the_first_ones(tmp_path: Path) -> None:
    folder_of(tmp_path, 1)
    Image.fromarray(pixels(7, 1)[:, :, 0]).save(tmp_path / "000002.png")
    folder_of(tmp_path / "deep", 1, 3, np.uint16)
    (tmp_path / "deep" / "000001.png").rename(tmp_path / "000003.png")
    _, grey, deep = list(FrameFolderReader(tmp_path))
    assert all(np.array_equal(plane, pixels(7, 1)[:, :, 0]) for plane in grey.planes)
    assert np.array_equal(deep.planes[0], pixels(0, 3, np.uint16)[:, :, 1] // 257)


@pytest.mark.parametrize(
    "written", ["# timecode format v2\n0\n40\n", "\ufeff# timestamp format v2\r\n# x\r\n0\r\n40\r\n"]
)
def test_times_as_other_programs_write_them(written: str, tmp_path: Path) -> None:
    (folder_of(tmp_path, 2) / TIMESTAMPS).write_bytes(written.encode())
    assert [frame.pts for frame in FrameFolderReader(tmp_path)] == [0, 40_000]


def test_only_what_was_written_here_may_be_replaced(tmp_path: Path) -> None:
    folder_of(tmp_path, 2)
    write_timestamps(tmp_path, [Fraction(0), Fraction(1)])
    assert is_replaceable(tmp_path)
    (tmp_path / "holiday.png").write_bytes(b"x")
    assert not is_replaceable(tmp_path)


def test_what_cameras_and_encoders_call_their_files_is_a_video(tmp_path: Path) -> None:
    names = {"phone.3g2", "tape.m2t", "car.h264", "door.hevc", "web.mjpeg", "old.qt", "raw.ivf"}
    for name in names:
        (tmp_path / name).touch()
    found = gather_videos([str(tmp_path)])
    assert {each.path.name for each in found.files} == names and not found.ignored


def test_videos_and_folders_of_frames_are_found_and_the_tree_is_kept(tmp_path: Path) -> None:
    for name in ("in/b.mp4", "in/sub/a.MOV", "in/.b.mp4.deblur/000000.mp4", "in/notes.txt", "in/b_deblurred.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    folder_of(tmp_path / "shots", 2)
    gathered = gather_videos([str(tmp_path / "in"), str(tmp_path / "shots")])
    made = plan_videos(gathered, output=str(tmp_path / "out"))
    targets = {item.source.name: item.target for item in made.items}
    out = tmp_path / "out"
    assert targets == {"b.mp4": out / "b.mp4", "a.MOV": out / "sub/a.MOV", "shots": out / "shots.mp4"}


@pytest.mark.parametrize(
    ("extension", "codec", "expected"),
    [
        (".mp4", "auto", ".mp4"),
        (".MOV", "hevc", ".MOV"),
        (".mp4", "prores", ".mov"),
        (".mp4", "ffv1", ".mkv"),
        (".mkv", "prores", ".mkv"),
        (".avi", "auto", ".mkv"),
        (".wmv", "h264", ".mkv"),
        ("", "auto", ".mp4"),
        ("", "ffv1", ".mkv"),
        (".mp4", "hevc_nvenc", ".mp4"),
    ],
)
def test_outputs_get_a_container_that_is_written_and_holds_the_codec(extension: str, codec: str, expected: str) -> None:
    assert video_extension(extension, codec) == expected


def test_a_folder_for_frames_is_skipped_replaced_or_refused_by_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"x")
    frames = tmp_path / "frames"

    def plan(*, overwrite: bool = False, folder: Path = frames) -> tuple[str, str]:
        (item,) = plan_videos(gather_videos([str(tmp_path / "a.mp4")]), frames=folder, overwrite=overwrite).items
        return item.action, item.reason

    assert plan() == ("restore", "")
    folder_of(frames, 2)
    assert plan() == ("skip", EXISTS)
    assert plan(overwrite=True) == ("restore", "")
    (frames / "notes.txt").write_bytes(b"x")
    assert plan(overwrite=True)[0] == "refuse"
    assert plan(folder=tmp_path / "a.mp4")[0] == "refuse"
    with pytest.raises(UsageError, match="--output"):
        plan_videos(gather_videos([str(tmp_path / "a.mp4")]), frames=frames, output="b")


def test_frames_never_go_into_the_folder_they_come_from(tmp_path: Path) -> None:
    shots = folder_of(tmp_path / "shots", 2)
    for folder in (shots, shots / "out"):
        (item,) = plan_videos(gather_videos([str(shots)]), frames=folder, overwrite=True).items
        assert item.action == "refuse"
