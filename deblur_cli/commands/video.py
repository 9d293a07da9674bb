"""`deblur video`: videos in, sharp videos out."""

from __future__ import annotations

import shlex
import signal
import sys
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deblur_cli.commands.batch import (
    check_engine,
    check_report,
    kinds,
    load_restorer,
    on_termination,
    print_plan,
    print_summary,
    save_report,
)
from deblur_cli.commands.console import say, shown
from deblur_cli.commands.options import (
    DEFAULT_MODEL,
    Device,
    DryRun,
    MemoryLimit,
    Overlap,
    Precision,
    Report,
    Strength,
    Suffix,
    Tile,
    engine_options,
    model_option,
    parse_rate,
    parse_time,
)
from deblur_cli.errors import EXIT_OK, EXIT_SOME_FAILED, UsageError
from deblur_cli.words import counted

if TYPE_CHECKING:
    from deblur_cli.media.plan import Item, Plan
    from deblur_cli.restoration.video_batch import VideoOutcome
    from deblur_cli.restoration.video_outputs import VideoSettings

_LINE_SECONDS = 10.0
_FFMPEG_ARGS = (
    "Further arguments for ffmpeg: for the encoder, like '-tune film'; for the file, like '-movflags +faststart' or "
    "'-metadata title=Pan'; for other streams, like '-c:a aac -b:a 128k'."
)


def video(
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Videos, folders, patterns; folders of numbered pictures.")
    ],
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="OUT", help="A folder; a file for a single video.")
    ] = None,
    model: Annotated[str, model_option("The network.")] = DEFAULT_MODEL,
    strength: Strength = 1.0,
    codec: Annotated[
        str, typer.Option(help="auto (the source's), h264, hevc, av1, vp9, prores, ffv1, or an encoder of ffmpeg's.")
    ] = "auto",
    crf: Annotated[
        float | None, typer.Option(min=0.0, max=63.0, help="Quality in the codec's scale; less is better.")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="Effort in the codec's scale (fast, slow, 6, ...).")] = None,
    ffmpeg_args: Annotated[str | None, typer.Option("--ffmpeg-args", help=_FFMPEG_ARGS)] = None,
    start: Annotated[str | None, typer.Option(help="Begin there: 90, 1:30 or 0:01:30.5.")] = None,
    end: Annotated[str | None, typer.Option(help="End there.")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Leave the left half blurred, with a line beside it.")
    ] = False,
    frames: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the frames as pictures to this folder, and no video.")
    ] = None,
    rate: Annotated[
        str | None,
        typer.Option(
            metavar="FPS",
            help="Frames a second of a folder of pictures, like 25 or 30000/1001. [default: its timestamps.txt, or 25]",
        ),
    ] = None,
    no_scene_cuts: Annotated[
        bool, typer.Option("--no-scene-cuts", help="Do not let a recurrent network forget at scene cuts.")
    ] = False,
    suffix: Suffix = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Make outputs again that exist, or were begun with other options.")
    ] = False,
    dry_run: DryRun = False,
    report: Report = None,
    device: Device = "auto",
    precision: Precision = "auto",
    tile: Tile = "auto",
    overlap: Overlap = None,
    memory_limit: MemoryLimit = None,
) -> None:
    """Make blurred videos sharp.

    Every frame is restored; its time, the other streams, chapters and metadata stay. Outputs lie beside the videos as
    NAME_deblurred, or below OUT under their own names. Inputs are never changed, and outputs that exist are skipped.
    What was interrupted, by Ctrl-C or a power cut, goes on when the same command is given again.
    """
    from deblur_cli.media.encoders import by_own_name

    codec = by_own_name(codec)
    engine = engine_options(model, device, precision, tile, overlap, memory_limit) | {"strength": strength}
    settings = _settings(
        codec=codec,
        crf=crf,
        preset=preset,
        extra=ffmpeg_args,
        start=start,
        end=end,
        pictures=frames is not None,
        compare=compare,
        scene_cuts=not no_scene_cuts,
        rate=rate,
    )
    if "-" in {output, None if frames is None else str(frames)}:
        raise UsageError("no video is written to standard output, which is for single photos; name a file or a folder")
    if frames is not None and frames.name in {"", ".."}:
        frames = frames.resolve()
    plan = _plan(inputs, output, suffix=suffix, codec=codec, frames=frames, overwrite=overwrite, compare=compare)
    if rate is not None and not any(item.source.is_dir() for item in plan.items):
        raise UsageError("--rate is for folders of pictures; videos have times of their own, and it has nothing to do")
    check_engine(engine)
    if dry_run:
        if report:
            raise UsageError("--dry-run writes nothing, and so no --report either")
        raise typer.Exit(print_plan(plan))
    if report:
        check_report(report, plan, model, "video")
    raise typer.Exit(_restore(plan, engine, settings, report, overwrite=overwrite))


def _plan(inputs: list[str], output: str | None, **options: Any) -> Plan:
    from deblur_cli.media.frame_folders import why_no_frames
    from deblur_cli.media.gather import gather_videos
    from deblur_cli.media.plan import plan_videos

    plan = plan_videos(gather_videos(inputs, output=None if output is None else Path(output)), output=output, **options)
    if not plan.items:
        passed_over = f" ({kinds(plan)})" if plan.ignored else ""
        frames = next(filter(None, map(why_no_frames, map(Path, inputs))), "")
        raise UsageError(f"there are no videos in {', '.join(inputs)}{passed_over}{frames}")
    return plan


def _settings(
    *, codec: str, extra: str | None, start: str | None, end: str | None, rate: str | None, **others: Any
) -> VideoSettings:
    from deblur_cli.restoration.video_outputs import VideoSettings

    _check_codec(codec, others["crf"], others["preset"])
    if others["pictures"] and (codec != "auto" or others["crf"] is not None or others["preset"] or extra):
        raise UsageError("--frames writes PNG pictures; --codec, --crf, --preset and --ffmpeg-args have nothing to do")
    settings = VideoSettings(
        codec=codec,
        extra=_words(extra) if extra else (),
        start=None if start is None else parse_time(start),
        end=None if end is None else parse_time(end),
        rate=None if rate is None else parse_rate(rate),
        **others,
    )
    if settings.end is not None and settings.end <= (settings.start or 0):
        raise UsageError(f"there is nothing between --start {start or 0} and --end {end}")
    return settings


def _check_codec(codec: str, crf: float | None, preset: str | None) -> None:
    """Raise for a codec that there is not, with one that is called alike, and for scales that it does not have."""
    import difflib

    from deblur_cli.media import ffmpeg
    from deblur_cli.media.encoders import ENCODERS, check_preset

    known = ["auto", *ENCODERS]
    if codec in ENCODERS:
        encoder = ENCODERS[codec][0]
        if (crf is not None and encoder.crf is None) or (preset is not None and encoder.preset is None):
            raise UsageError(f"{codec} has no such scale as {'--preset' if crf is None else '--crf'}")
    if codec in known or codec in ffmpeg.encoders():
        if preset:
            check_preset(codec, preset)
        return
    near = difflib.get_close_matches(codec, [*known, *ffmpeg.encoders()], 1)
    hint = f"; did you mean '{near[0]}'?" if near else f"; take one of {', '.join(known)}, or an encoder of ffmpeg's"
    raise UsageError(f"there is no video codec '{codec}'{hint}")


def _words(arguments: str) -> tuple[str, ...]:
    from deblur_cli.media.ffmpeg_arguments import options

    try:
        words = shlex.split(arguments)
    except ValueError as error:
        raise UsageError(f"--ffmpeg-args '{arguments}' cannot be split into words: {error}") from error
    return tuple(word for option in options(words) for word in option)


def _restore(
    plan: Plan, engine: dict[str, Any], settings: VideoSettings, report: Path | None, *, overwrite: bool
) -> int:
    from deblur_cli.restoration.video_batch import restore_videos

    outcomes: list[VideoOutcome] = []
    to_restore = {item.source for item in plan.having("restore")}
    for folder in plan.empty:
        say(f"warning: there are no videos in {folder}")
    interrupted = True
    kept = "what is done is kept"
    restorer = None
    with FrameProgress(len(to_restore)) as progress, on_termination(progress.interrupt):

        def done(outcome: VideoOutcome) -> None:
            outcomes.append(outcome)
            if outcome.source in to_restore:
                progress.finish(_line(outcome))

        def stopped(item: Item, count: int) -> None:
            nonlocal kept
            frames = counted(count, "frame") if count else "no frame"
            kept = f"of {item.source.name} {frames} {'are' if count > 1 else 'is'} kept{'' if count else ' yet'}"

        try:
            restorer = load_restorer(engine, progress.say) if to_restore else None
            restore_videos(
                plan,
                restorer,
                settings,
                overwrite=overwrite,
                begin=progress.begin,
                progress=progress.advance,
                done=done,
                should_stop=progress.wants_to_stop,
                stopped=stopped,
            )
            interrupted = False
        finally:
            # What is left to do is short, and all that tells the user what became of the videos.
            with on_termination(signal.SIG_IGN):
                progress.close()
                order = {item.source: place for place, item in enumerate(plan.items)}
                outcomes.sort(key=lambda outcome: order[outcome.source])
                if interrupted and progress.interrupted:
                    say(shown(f"{kept}: the same command goes on"))
                reported = report is None or save_report(plan, outcomes, restorer, report, interrupted)
                if outcomes or not interrupted:
                    _print_outcomes(plan, outcomes)
    failed = any(outcome.status == "failed" or outcome.damaged for outcome in outcomes)
    return EXIT_SOME_FAILED if failed or not reported else EXIT_OK


def _line(outcome: VideoOutcome) -> str:
    if outcome.status != "restored":
        return f"{outcome.source} {outcome.status}: {outcome.reason}"
    before = f", {outcome.frames_before} of them before" if outcome.frames_before else ""
    what = f"{outcome.width}x{outcome.height}, {counted(outcome.frames, 'frame')}{before}"
    return f"{outcome.source} -> {outcome.target} ({what}, {outcome.seconds:.1f} s)"


def _print_outcomes(plan: Plan, outcomes: list[VideoOutcome]) -> None:
    restored = [outcome for outcome in outcomes if outcome.status == "restored"]
    seconds = sum(outcome.seconds for outcome in restored)
    frames = sum(outcome.frames - outcome.frames_before for outcome in restored)
    print_summary(plan, outcomes, f"{counted(frames, 'frame')}, {frames / seconds:.1f} a second" if seconds else "")
    for outcome in restored:
        if outcome.undecodable:
            typer.echo(shown(f"damaged: {outcome.source}: {_damage(outcome)}"))
        if outcome.damaged:
            done = f"{counted(outcome.frames, 'frame')} {'is' if outcome.frames == 1 else 'are'} restored"
            typer.echo(shown(f"incomplete: {outcome.source}: {done}; {outcome.damaged}"))


def _damage(outcome: VideoOutcome) -> str:
    told = f"{counted(outcome.undecodable, 'frame')} could not be decoded whole"
    if not outcome.repeated:
        return told
    place = "its place" if outcome.undecodable == 1 else f"place of {outcome.repeated} of them"
    return f"{told}; in {place} the one before comes again"


class FrameProgress:
    """Shows the frames of one video after another on standard error: a bar with frames a second and the time left on a
    terminal, else a line now and then. The first Ctrl-C or SIGTERM becomes a wish to stop behind a frame.

    Args:
        total: how many videos there are.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.interrupted = False
        self._count = 0
        self._name = ""
        self._bar: Any = None
        self._before: int | None = None
        self._began = self._said = 0.0

    def __enter__(self) -> FrameProgress:
        self._handler = signal.signal(signal.SIGINT, self.interrupt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGINT, self._handler)
        self.close()

    def wants_to_stop(self) -> bool:
        """Whether Ctrl-C was pressed, or SIGTERM came."""
        return self.interrupted

    def begin(self, item: Item) -> None:
        """Another video is begun."""
        from tqdm import tqdm

        self._count += 1
        self._name = f"[{self._count}/{self.total}] {shown(item.source.name)}"
        self._before, self._began, self._said = None, time.monotonic(), time.monotonic()
        if sys.stderr.isatty():
            self._bar = tqdm(
                desc=self._name,
                unit=" frames",
                bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} {rate_noinv_fmt} {elapsed} left {remaining}",
                file=sys.stderr,
                leave=False,
                dynamic_ncols=True,
            )

    def advance(self, done: int, expected: int | None) -> None:
        """So many of about so many frames are done."""
        if self._before is None:
            self._before = done
            if done:
                self.say(f"going on after frame {done}")
            if self._bar is not None:
                self._bar.initial = self._bar.n = done
        if self._bar is not None:
            self._bar.total = None if expected is None else max(expected, done)
            self._bar.update(done - self._bar.n)
        elif time.monotonic() - self._said >= _LINE_SECONDS:
            self._said = time.monotonic()
            speed = (done - self._before) / (self._said - self._began)
            of = f" of about {expected}" if expected and expected >= done else ""
            left = f", {(expected - done) / speed:.0f} s left" if of and speed and expected else ""
            say(f"{self._name}: {done}{of} frames, {speed:.2f} frames/s{left}")

    def finish(self, line: str) -> None:
        """The video is done."""
        self.close()
        say(f"[{self._count}/{self.total}] {line}")

    def say(self, text: str) -> None:
        """Something the user should hear of now, written above the bar."""
        if self._bar is not None:
            self._bar.write(shown(text), file=sys.stderr)
        else:
            say(text)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def interrupt(self, number: int, frame: FrameType | None) -> None:
        """What signals that are meant to end the run are handled by."""
        if self.interrupted:  # the second time it is meant
            raise KeyboardInterrupt
        self.interrupted = True
        self.say("stopping; Ctrl-C again to stop at once")
