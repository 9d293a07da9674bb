"""What a HEIC or AVIF says beside its pixels in properties and items of its own."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from deblur_cli.media import exif, photos
from deblur_cli.media.photo import Photo
from tests.media.photo_samples import XMP, encoded, exif_block, smooth, written

LIGHT: dict[str, Any] = {
    "content_light_level": {"max_content_light_level": 1000, "max_pic_average_light_level": 203},
    "mastering_display_colour_volume": {
        "display_primaries_x": (8500, 6550, 35400),
        "display_primaries_y": (39850, 2300, 14600),
        "white_point_x": 15635,
        "white_point_y": 16450,
        "max_display_mastering_luminance": 10_000_000,
        "min_display_mastering_luminance": 50,
    },
    "ambient_viewing_environment": {
        "ambient_illumination": 314_000,
        "ambient_light_x": 15635,
        "ambient_light_y": 16450,
    },
    "nominal_diffuse_white_luminance": 2_030_000,
}
IPTC = {"type": "iptc", "content_type": "", "data": b"\x1c\x02Z\x00\x08Budapest"}
OTHER = {"type": "abcd", "content_type": "", "data": b"1234"}


def heic(**settings: Any) -> bytes:
    stream = io.BytesIO()
    pixels = np.ascontiguousarray(smooth(24, 40))
    pillow_heif.from_bytes("RGB", (40, 24), pixels.tobytes()).save(stream, quality=95, chroma=444, **settings)
    return stream.getvalue()


def read(data: bytes) -> Photo:
    return photos.read(io.BytesIO(data))


def said(data: bytes) -> dict[str, Any]:
    """What pillow-heif finds in the file."""
    return dict(pillow_heif.open_heif(data)[0].info)


@pytest.mark.parametrize(
    "settings",
    [*({name: value} for name, value in LIGHT.items()), {"pixel_aspect_ratio": (4, 3)}, {"metadata": [IPTC, OTHER]}],
)
def test_properties_and_items_come_back(settings: dict[str, Any]) -> None:
    source = heic(**settings)
    photo = read(source)
    assert not photo.warnings
    stream = io.BytesIO()
    assert photos.write(photo, stream, format="HEIF") == []
    for name, value in settings.items():
        assert said(source)[name] == said(stream.getvalue())[name] == value


def test_the_shape_of_a_pixel_turns_with_the_picture() -> None:
    source = heic(pixel_aspect_ratio=(4, 3), exif=exif_block(6))
    assert said(source)["pixel_aspect_ratio"] == (4, 3) and read(source).pixels.shape == (40, 24, 3)
    assert said(written(read(source), "HEIF"))["pixel_aspect_ratio"] == (3, 4)


def test_a_change_of_format_says_what_it_loses() -> None:
    photo = read(heic(**LIGHT, pixel_aspect_ratio=(4, 3), metadata=[IPTC, OTHER]))
    named = "mastering data, viewing conditions, pixel aspect ratio, IPTC, other metadata"
    assert photos.write(photo, io.BytesIO(), format="WEBP") == [f"WEBP is written without the HEIF's {named}"]
    assert photos.write(read(heic(pixel_aspect_ratio=(1, 1))), io.BytesIO(), format="WEBP") == []


@pytest.mark.parametrize("kind", ["uri ", "abcd"])
def test_items_that_cannot_be_written_are_said_not_to_be_kept(kind: str) -> None:
    item = OTHER | {"type": kind}
    # A type that is no ASCII, as only a damaged or foreign file has it.
    data = heic(metadata=[item]) if kind == "uri " else heic(metadata=[item]).replace(b"abcd", b"E\xc3\xaaf")
    photo = read(data)
    assert photo.warnings == ["metadata of a kind that cannot be written is not kept"]
    assert not said(written(photo, "HEIF"))["metadata"]


def test_the_cameras_matrices_are_said_not_to_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = pillow_heif.open_heif

    def with_matrices(*arguments: Any, **settings: Any) -> Any:  # nothing here writes them
        container = opened(*arguments, **settings)
        container[0].info["heif"] = {"camera_extrinsic_matrix_rot": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)}
        return container

    data = heic()
    monkeypatch.setattr(pillow_heif, "open_heif", with_matrices)
    assert read(data).warnings == ["the camera's matrices, as of a spatial photo, are not kept"]


def test_an_avif_is_turned_by_its_boxes_and_not_by_its_xmp() -> None:
    image, packet = Image.fromarray(smooth(24, 40)), XMP % 6
    photo = read(encoded(image, "AVIF", xmp=packet))
    assert photo.pixels.shape == (24, 40, 3) and photo.xmp == XMP % 1
    turned = encoded(image, "AVIF", xmp=packet, exif=exif.PREFIX + exif_block(6))
    assert b"irot" in turned
    photo = read(turned)
    assert photo.pixels.shape == (40, 24, 3) and photo.xmp == XMP % 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("stated", [1, 6])
def test_a_heic_is_turned_by_its_boxes_and_not_by_its_tags(orientation: int, stated: int) -> None:
    source = heic(exif=exif_block(orientation))
    if orientation > 1:
        assert b"irot" in source or b"imir" in source
    tag = struct.pack("<HHI", exif.ORIENTATION, 3, 1)
    assert source.count(tag) == 1
    photo = read(source.replace(tag + bytes((orientation,)), tag + bytes((stated,))))
    assert photo.exif == exif.upright(exif_block(1), orientation, (40, 24) if orientation < 5 else (24, 40))
    assert exif.resolution(photo.exif) == ((300, 150) if photo.pixels.shape == (24, 40, 3) else (150, 300))
