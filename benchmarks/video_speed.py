"""How much slower is `deblur video` than ffmpeg alone?

    python -m benchmarks.video_speed

The network is the identity, so that what is measured is all the rest: decoding, pipes, colours, encoding, joining.
ffmpeg alone is one run of the same binary with the same encoder settings. The two take turns. Compared are the frames a
second by the clock and, which other programs disturb less, the processor time a frame of all processes together; of
several runs the fastest counts. The third row is the pipeline at strength 0, which does without colours and network.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from deblur_cli.media import ffmpeg
from deblur_cli.media.encoders import choose
from deblur_cli.media.probe import probe
from deblur_cli.restoration.restorer import Restorer
from deblur_cli.restoration.video_job import restore_video
from deblur_cli.restoration.video_outputs import VideoSettings
from models import LoadedModel, ModelInfo

SHARP = Path(__file__).parents[1] / "sample_media" / "sharp"
TILE = (300, 450)
"""Rows and columns that are cut from each photo."""
RATE = 30


@dataclass
class Cost:
    """The least of several runs, in seconds."""

    clock: float = float("inf")
    processor: float = float("inf")

    def take(self, work: Callable[[], object]) -> None:
        """Do the work once more."""
        clock, processor = time.perf_counter(), processor_time()
        work()
        self.clock = min(self.clock, time.perf_counter() - clock)
        self.processor = min(self.processor, processor_time() - processor)


def processor_time() -> float:
    """Seconds that this process and its children that have ended took so far."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def make_clip(target: Path, width: int, height: int, seconds: float) -> None:
    """A camera that moves over a wall of the sample photos, by fractions of a pixel, with a little noise."""
    photos = [np.asarray(Image.open(path).convert("RGB"))[: TILE[0], : TILE[1]] for path in sorted(SHARP.glob("*.png"))]
    frames = round(seconds * RATE)
    # Seen from one and a half times the size: what lies between pixels is then real detail too.
    view = (height * 3 // 2, width * 3 // 2)
    counts = [-(-(side + 4 * frames) // tile) for side, tile in zip(view, TILE, strict=True)]
    wall = np.vstack(
        [np.hstack([photos[(row + column) % len(photos)] for column in range(counts[1])]) for row in range(counts[0])]
    )
    picture = target.with_suffix(".png")
    Image.fromarray(wall).save(picture, compress_level=1)
    chain = f"crop={view[1]}:{view[0]}:x=3.3*n:y=1.7*n,scale={width}:{height}:out_color_matrix=bt709:out_range=tv"
    chain += ",noise=alls=4:allf=t,format=yuv420p,setparams=range=tv:colorspace=bt709"
    source = ["-loop", "1", "-framerate", str(RATE), "-t", str(seconds), "-i", ffmpeg.file_argument(picture)]
    encoder = ["-c:v", "libx264", "-crf", "18", "-preset", "fast"]
    run([*source, "-vf", chain, *encoder, ffmpeg.file_argument(target)])


def run(arguments: list[str]) -> None:
    """Run ffmpeg, which has to succeed."""
    done = ffmpeg.run([*ffmpeg.QUIET, "-loglevel", "error", "-y", *arguments])
    if done.returncode:
        raise SystemExit(done.stderr.decode(errors="replace"))


def identity() -> LoadedModel:
    """A network that gives back what it is given."""
    info = ModelInfo(name="identity", description="", builder=nn.Identity, options={})
    return LoadedModel(nn.Identity().eval(), info, {}, None, None, {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--input", type=Path, help="a video (default: one made of the sample photos)")
    parser.add_argument("--size", default="1920x1080", help="of the video that is made (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of the video that is made (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each (default: %(default)s)")
    parser.add_argument("--device", default="cpu", help="default: %(default)s")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "source.mp4"), Path(folder, "target.mp4")
        if options.input is None:
            width, height = (int(side) for side in options.size.split("x"))
            make_clip(source, width, height, options.seconds)
        else:
            source = options.input
        info = probe(source)
        encoding = choose(target, info.video, info, codec="h264")
        settings = VideoSettings(codec="h264")
        restorers = [Restorer(identity(), device=options.device, strength=strength) for strength in (1.0, 0.0)]

        def transcode() -> None:
            streams = ["-map", f"0:{info.index}", "-c:v", *encoding.arguments, "-pix_fmt", encoding.pixels]
            run(["-i", ffmpeg.file_argument(source), *streams, ffmpeg.file_argument(target)])

        def restore(restorer: Restorer) -> None:
            target.unlink(missing_ok=True)
            frames[0] = restore_video(source, target, restorer, settings).frames

        frames = [0]
        costs = {"ffmpeg": Cost(), "deblur video": Cost(), "deblur video, strength 0": Cost()}
        for _ in range(options.repeats):
            costs["ffmpeg"].take(transcode)
            for name, restorer in zip(list(costs)[1:], restorers, strict=True):
                costs[name].take(partial(restore, restorer))

    frame = f"{info.video.width}×{info.video.height} {info.video.pixels.name}"
    print(f"{frame}, {frames[0]} frames, {' '.join(encoding.arguments)}, {torch.get_num_threads()} threads of torch")
    print(f"{'':26}{'frames/s':>10}{'of ffmpeg':>11}{'processor ms a frame':>22}{'of ffmpeg':>11}")
    alone = costs["ffmpeg"]
    for name, cost in costs.items():
        rate, spent = frames[0] / cost.clock, 1000 * cost.processor / frames[0]
        ratios = alone.clock / cost.clock, alone.processor / cost.processor
        print(f"{name:26}{rate:>10.2f}{ratios[0]:>11.2f}{spent:>22.1f}{ratios[1]:>11.2f}")


if __name__ == "__main__":
    main()
