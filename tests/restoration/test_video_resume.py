"""What a video goes on with after an interruption: the precision, the memory there is, what was found of the source."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from deblur_cli.errors import DiskFullError, UsageError, VideoError
from deblur_cli.media.files import temporary_name
from deblur_cli.media.plan import Item, Plan
from deblur_cli.media.probe import probe
from deblur_cli.media.video_reader import VideoReader
from deblur_cli.media.video_writer import VideoWriter
from deblur_cli.restoration import journal as journals
from deblur_cli.restoration import video_job, video_outputs
from deblur_cli.restoration.frames import Summary
from deblur_cli.restoration.journal import Journal, working_folder
from deblur_cli.restoration.restorer import Restorer
from deblur_cli.restoration.states import SequenceState
from deblur_cli.restoration.video_batch import restore_videos
from deblur_cli.restoration.video_job import VideoResult, restore_video
from deblur_cli.restoration.video_outputs import VideoSettings
from tests.media.video_samples import H264, PICTURE, make
from tests.restoration.networks import Apply, loaded

pytestmark = pytest.mark.usefixtures("one_thread", "short_segments")

SIZE = 5
"""Frames of a segment in these tests."""
LOSSLESS = VideoSettings(codec="ffv1")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifteen frames of 96×64 pixels."""
    return make(tmp_path_factory.mktemp("clips") / "clip.mp4", *PICTURE, *H264)


@pytest.fixture
def short_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video_job, "segment_length", lambda *_: SIZE)


def stopped_at(frame: int, clip: Path, target: Path, restorer: Restorer) -> VideoResult:
    """What becomes of a video that is to stop when so many frames are written."""
    written = [0]

    def progress(done: int, expected: int | None) -> None:
        written[0] = done

    result = restore_video(clip, target, restorer, LOSSLESS, progress=progress, should_stop=lambda: written[0] >= frame)
    assert result.stopped
    return result


def samples(path: Path) -> bytes:
    return b"".join(plane.tobytes() for frame in VideoReader(path) for plane in frame.planes)


def test_a_video_begun_after_another_overflowed_goes_on_in_the_precision_it_was_begun_in(
    clip: Path, tmp_path: Path
) -> None:
    overflows = True

    def network(blurred: Tensor) -> Tensor:
        if not torch.is_autocast_enabled("cpu"):
            return blurred * 0.5
        return blurred / 0 if overflows else blurred

    def restorer(precision: str) -> Restorer:
        return Restorer(loaded(Apply(network)), device="cpu", precision=precision, notify=lambda text: None)

    target, both = tmp_path / "a.mkv", restorer("bf16")
    restore_video(clip, tmp_path / "first.mkv", both, LOSSLESS)
    assert (both.first_precision, both.precision) == ("bf16", "fp32")
    stopped_at(SIZE, clip, target, both)
    overflows = False
    again = restorer("bf16")
    assert restore_video(clip, target, again, LOSSLESS).before == SIZE
    assert again.precision == "fp32"
    restore_video(clip, tmp_path / "unbroken.mkv", restorer("fp32"), LOSSLESS)
    assert samples(target) == samples(tmp_path / "unbroken.mkv")


def test_with_less_memory_than_before_a_network_begins_anew_in_smaller_tiles_and_it_is_said(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[SequenceState] = []
    restore_frames = video_job.restore_frames

    def noting(*arguments: Any, state: SequenceState, **options: Any) -> Summary:
        given.append(state)
        return restore_frames(*arguments, state=state, **options)

    monkeypatch.setattr(video_job, "restore_frames", noting)

    def restorer(memory_limit: int | None = None) -> Restorer:
        return Restorer("test-tiny-recurrent", device="cpu", memory_limit=memory_limit, notify=lambda text: None)

    target, whole = tmp_path / "a.mkv", restorer()._planner._needs(96 * 64)
    stopped_at(SIZE, clip, target, restorer())
    given.clear()
    assert stopped_at(SIZE + 2, clip, target, restorer(whole)).warnings == ()
    assert given[0].frame is not None, "what fits is used as it is"
    given.clear()
    short = whole * 4 // 5
    told = ("less memory than before: the network begins anew at frame 6, in smaller tiles",)
    assert stopped_at(2 * SIZE, clip, target, restorer(short)).warnings == told
    assert given[0].frame is None and given[0].last_look is not None
    given.clear()
    result = restore_video(clip, target, restorer(short), LOSSLESS)
    assert (result.before, result.frames, result.warnings) == (2 * SIZE, 15, told), "it is not forgotten"
    assert given[0].frame is not None and given[0].frame.plan.tile_count == 2


def test_damage_of_the_source_before_the_interruption_is_not_forgotten(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planes = VideoReader._planes

    def damaged(self: VideoReader, pipe: Any) -> Any:
        self.damaged = "a part is missing"
        return planes(self, pipe)

    target, restorer = tmp_path / "a.mkv", Restorer("test-tiny", device="cpu")
    with monkeypatch.context() as patched:
        patched.setattr(VideoReader, "_planes", damaged)
        stopped_at(SIZE, clip, target, restorer)
    result = restore_video(clip, target, restorer, LOSSLESS)
    assert (result.before, result.damaged) == (SIZE, "a part is missing")


def test_a_kill_behind_the_last_step_of_pictures_is_followed_by_a_fresh_start(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: Journal) -> None:
        raise KeyboardInterrupt

    settings, target = VideoSettings(pictures=True), tmp_path / "frames"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Journal, "remove", killed)
        restore_video(clip, target, Restorer("test-tiny", device="cpu"), settings)
    assert len(list(target.glob("*.png"))) == 15
    result = restore_video(clip, target, Restorer("test-tiny", device="cpu"), settings, overwrite=True)
    assert (result.before, result.frames) == (0, 15)
    assert any("pictures' is missing: starting afresh" in warning for warning in result.warnings)
    assert len(list(target.glob("*.png"))) == 15
    assert list(tmp_path.iterdir()) == [target]


def test_a_second_start_leaves_alone_what_the_first_is_writing_and_a_later_one_clears_it_up(
    clip: Path, tmp_path: Path
) -> None:
    target, restorer = tmp_path / "a.mkv", Restorer("test-tiny", device="cpu")
    half = temporary_name(target)
    half.write_bytes(b"half")
    first = Journal(target, {})
    plan = Plan((Item(clip, target, "restore"),))
    (outcome,) = restore_videos(plan, restorer, LOSSLESS)
    assert outcome.status == "failed" and "another run" in (outcome.reason or "")
    assert half.exists()
    first.leave()
    (outcome,) = restore_videos(plan, restorer, LOSSLESS)
    assert outcome.status == "restored"
    assert list(tmp_path.iterdir()) == [target]


def test_room_for_the_state_is_asked_for_while_there_are_frames_to_come(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = VideoWriter.write

    def write(self: VideoWriter, frame: Any) -> None:
        if self.target.name.startswith("000002"):
            raise DiskFullError(f"{self.target}: the disk is full")
        real(self, frame)

    def full(*_: object, **__: object) -> list[str]:
        raise DiskFullError("a.mkv: the disk is full")

    monkeypatch.setattr(journals, "save_state", lambda state: bytes(7_000_000))
    restorer = Restorer("test-tiny-recurrent", device="cpu")
    with monkeypatch.context() as patched, pytest.raises(DiskFullError, match=r"after 10 frames.*about 8 MB"):
        patched.setattr(VideoWriter, "write", write)
        restore_video(clip, tmp_path / "a.mkv", restorer, LOSSLESS)
    with monkeypatch.context() as patched, pytest.raises(DiskFullError, match=r"after 15 frames.*about 1 MB"):
        patched.setattr(video_outputs, "join_segments", full)
        restore_video(clip, tmp_path / "b.mkv", restorer, LOSSLESS)


def test_arguments_for_the_file_alone_may_change_when_joining_has_failed(clip: Path, tmp_path: Path) -> None:
    restorer = Restorer("test-tiny", device="cpu")
    sound = make(tmp_path / "short.mkv", "-i", clip, "-f", "lavfi", "-i", "sine=d=0.2", "-c:v", "copy", "-c:a", "flac")
    wrong, right = (replace(LOSSLESS, extra=extra) for extra in (("-shortest",), ("-metadata", "title=whole")))
    target = tmp_path / "a.mkv"
    with pytest.raises(VideoError, match="joining has lost frames"):
        restore_video(sound, target, restorer, wrong)
    with pytest.raises(UsageError, match=r"other options \(extra\)"):
        restore_video(sound, target, restorer, replace(LOSSLESS, extra=("-g", "3")))
    result = restore_video(sound, target, restorer, right)
    assert result.before == result.frames == 15
    assert probe(target).file_metadata["title"] == "whole"


def test_segments_that_another_encoder_would_write_on_are_not_mixed(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another ffmpeg has, or another version of deblur's choice."""
    target, restorer = tmp_path / "a.mkv", Restorer("test-tiny", device="cpu")
    stopped_at(SIZE + 1, clip, target, restorer)
    real = video_outputs.choose
    monkeypatch.setattr(video_outputs, "choose", lambda *a, **more: replace(real(*a, **more), pixels="yuv444p"))
    with pytest.raises(UsageError, match=r"that is encoded otherwise; --overwrite"):
        restore_video(clip, target, restorer, LOSSLESS)
    monkeypatch.undo()
    monkeypatch.setattr(video_job, "segment_length", lambda *_: SIZE)
    assert restore_video(clip, target, restorer, LOSSLESS).before == SIZE


def test_what_a_kill_at_the_very_end_left_beside_a_whole_video_goes_and_beginnings_stay(tmp_path: Path) -> None:
    target, other, busy = (tmp_path / name for name in ("a.mkv", "b.mkv", "c.mkv"))
    for path in (target, other, busy):
        path.write_bytes(b"whole")
        working_folder(path).mkdir()
        (working_folder(path) / "000001.mkv").write_bytes(b"segment")
        temporary_name(path).write_bytes(b"half")
    (working_folder(other) / "journal.json").write_text("{}")
    first = Journal(busy, {})
    before = {*tmp_path.rglob("*")}
    plan = Plan(tuple(Item(tmp_path / f"source-{path.name}", path, "skip") for path in (target, other, busy)))
    assert [outcome.status for outcome in restore_videos(plan, None)] == ["skipped"] * 3
    gone = before - {*tmp_path.rglob("*")}
    assert working_folder(target) in gone and len(gone) == 3
    assert all("a.mkv" in str(path) for path in gone)
    first.leave()
