"""Makes this folder anew: blurred photos with the properties that photo files have, the sharp ones beside them, a clip.

    python sample_media/make.py

Needs scikit-image (extra `test`), whose public-domain and CC0 pictures it blurs; LICENSES names each. The seeds are in
PHOTOS and CLIP_SEED, so that the same files come out on every machine (to the rounding of its processor).
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import tifffile
import torch
from PIL import Image, ImageCms
from skimage import data

from deblur_cli.media import ffmpeg
from deblur_cli.media.pixel_formats import nearest_planar
from deblur_cli.media.video import Colour, Frame, VideoFormat
from deblur_cli.media.video_writer import VideoWriter
from deblur_cli.training.blur import BlurSettings, synthesise

HERE = Path(__file__).parent
BLUR = BlurSettings(length=(8, 20), foreground=0, saturation=0, defocus=0, noise=0, jpeg=0)
LANDSCAPE_TURNED = 6
"""EXIF orientation of a picture that has to be turned 90° clockwise to be seen upright."""

CLIP_SEED = 6
CLIP_SIZE = (320, 240)
"""Width and height of the clip as it is shown; its frames lie turned in the file, as telephones write them."""
CLIP_FRAMES = 60
CLIP_TICKS = (2500, 4500)
"""Time from a frame to the next, at least and at most, in 1/90000 s: a telephone's rate in dim light."""
CLIP_SHUTTER = 0.8
"""How much of the time to the next frame the shutter is open."""
CLIP_VIEWS = 25
"""Views that are averaged to a frame: less than half a pixel apart."""


@dataclass(frozen=True)
class Sample:
    """One picture: where it comes from, the seed of its blur, what its file is to hold."""

    name: str
    picture: str
    seed: int
    what: str


PHOTOS = (
    Sample("astronaut.jpg", "astronaut", 1, "JPEG 4:2:0, EXIF with orientation 6 and a place, ICC profile"),
    Sample("chelsea.png", "chelsea", 2, "PNG with alpha and 300 dpi"),
    Sample("coffee.tif", "coffee", 3, "TIFF of 16 bits a channel"),
    Sample("rocket.webp", "rocket", 4, "WebP with EXIF"),
    Sample("camera.png", "camera", 5, "grey PNG of 16 bits"),
)


def blurred_pair(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Blurred and sharp, H×W×3 float in [0, 1]."""
    pixels = getattr(data, sample.picture)()
    pixels = np.repeat(pixels[:, :, None], 3, axis=2) if pixels.ndim == 2 else pixels
    scene = torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0).float() / 255
    size = (scene.shape[2], scene.shape[3])
    blurred, sharp = synthesise(scene, size, BLUR, torch.Generator().manual_seed(sample.seed))
    return blurred[0].permute(1, 2, 0).numpy(), sharp[0].permute(1, 2, 0).numpy()


def quantised(pixels: np.ndarray, dtype: type[np.unsignedinteger]) -> np.ndarray:
    return (pixels * np.iinfo(dtype).max + 0.5).astype(dtype)


def exif_of(orientation: int | None) -> Image.Exif:
    exif = Image.Exif()
    exif[0x010E] = "a sample of deblur"
    exif[0x010F] = "deblur"
    if orientation:
        exif[0x0112] = orientation
        place = exif.get_ifd(0x8825)
        place[1], place[2] = "N", (48.0, 51.0, 30.0)
        place[3], place[4] = "E", (2.0, 17.0, 40.0)
    return exif


def camera_path(seconds: np.ndarray, whole: float, scene: tuple[int, int], seed: int) -> np.ndarray:
    """Where the middle of the view is at each time: a pan over the scene (width, height), and a hand that shakes."""
    generator = np.random.default_rng(seed)
    rates, phases = generator.uniform(1.0, 5.0, (4, 2)), generator.uniform(0, 2 * np.pi, (4, 2))
    shake = (np.sin(2 * np.pi * rates * seconds[:, None, None] + phases) * 8 / rates).sum(axis=1)
    margin = np.array(CLIP_SIZE) / 2 + 20
    way = 0.5 - 0.5 * np.cos(np.pi * seconds / whole)
    return margin + (np.array(scene) - 2 * margin) * way[:, None] + shake


def make_clip(target: Path) -> None:
    """A pan over a picture in which each frame is the mean, in linear light, of what the open shutter saw."""
    scene = (data.coffee() / 255.0).astype(np.float32) ** 2.2
    ticks = np.random.default_rng(CLIP_SEED).integers(*CLIP_TICKS, CLIP_FRAMES + 1, endpoint=True)
    begins = np.cumsum(ticks) - ticks[0]
    width, height = CLIP_SIZE
    video = VideoFormat(height, width, nearest_planar("yuv420p"), Colour("smpte170m"), Fraction(1, 90_000))
    with tempfile.TemporaryDirectory() as folder:
        silent = Path(folder) / "silent.mp4"
        with VideoWriter(silent, None, video, codec="h264", crf=18, preset="slow") as writer:
            for begin, length in zip(begins, ticks[1:], strict=False):
                open_shutter = (begin + np.linspace(0, CLIP_SHUTTER, CLIP_VIEWS) * length) / 90_000
                places = camera_path(open_shutter, begins[-1] / 90_000, (scene.shape[1], scene.shape[0]), CLIP_SEED)
                views = [cv2.getRectSubPix(scene, CLIP_SIZE, (float(x), float(y))) for x, y in places]
                frame = quantised(np.mean(views, axis=0) ** (1 / 2.2), np.uint8)
                planes = cv2.cvtColor(np.ascontiguousarray(np.rot90(frame)), cv2.COLOR_RGB2YUV_I420).ravel()
                shapes = video.pixels.plane_shapes(video.height, video.width)
                ends = np.cumsum([rows * columns for rows, columns in shapes])
                parts = (part.reshape(shape) for part, shape in zip(np.split(planes, ends[:-1]), shapes, strict=True))
                writer.write(Frame(tuple(parts), int(begin)))
        seconds = str((begins[-1]) / 90_000)
        tone = ["-f", "lavfi", "-i", f"sine=frequency=440:sample_rate=44100:duration={seconds}"]
        streams = ["-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "aac", "-b:a", "48k"]
        turned = ["-copyts", "-display_rotation", "270", "-i", str(silent)]
        timing = ["-video_track_timescale", "90000", "-metadata", "title=A pan over a cup of coffee"]
        made = ffmpeg.run(["-loglevel", "error", "-y", *turned, *tone, *streams, *timing, str(target)])
        if made.returncode:
            raise RuntimeError(made.stderr.decode())


def main() -> None:
    make_clip(HERE / "pan.mp4")
    photos, sharp_folder = HERE / "photos", HERE / "sharp"
    (photos / "real").mkdir(parents=True, exist_ok=True)
    sharp_folder.mkdir(exist_ok=True)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for sample in PHOTOS:
        blurred, sharp = blurred_pair(sample)
        target = photos / sample.name
        eight = Image.fromarray(quantised(blurred, np.uint8))
        Image.fromarray(quantised(sharp, np.uint8)).save(sharp_folder / f"{target.stem}.png", optimize=True)
        match sample.picture:
            case "astronaut":
                turned = eight.transpose(Image.Transpose.ROTATE_90)
                turned.save(target, quality=92, exif=exif_of(LANDSCAPE_TURNED), icc_profile=profile)
            case "chelsea":
                width, height = eight.size
                fade = np.clip(np.linspace(0, 4, width), 0, 1)
                eight.putalpha(Image.fromarray(quantised(np.tile(fade, (height, 1)), np.uint8)))
                eight.save(target, dpi=(300, 300), optimize=True)
            case "coffee":
                tifffile.imwrite(
                    target, quantised(blurred, np.uint16), photometric="rgb", compression="zlib", predictor=True
                )
            case "rocket":
                eight.save(target, quality=90, exif=exif_of(None))
            case "camera":
                Image.fromarray(quantised(blurred[:, :, 0], np.uint16)).save(target, optimize=True)
    Image.fromarray(data.clock()).save(photos / "real" / "clock.png", optimize=True)


if __name__ == "__main__":
    main()
