"""Makes this folder anew: blurred photos with the properties that photo files have, and the sharp ones beside them.

    python sample_media/make.py

Needs scikit-image (extra `test`), whose public-domain and CC0 pictures it blurs; LICENSES names each. The seeds are in
PHOTOS, so that the same files come out on every machine (to the rounding of its processor).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
import torch
from PIL import Image, ImageCms
from skimage import data

from deblur_cli.training.blur import BlurSettings, synthesise

HERE = Path(__file__).parent
BLUR = BlurSettings(length=(8, 20), foreground=0, saturation=0, defocus=0, noise=0, jpeg=0)
LANDSCAPE_TURNED = 6
"""EXIF orientation of a picture that has to be turned 90° clockwise to be seen upright."""


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


def main() -> None:
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
