"""Pixel formats: which planar one frames are decoded to, what each is called, and which of several loses least."""

from __future__ import annotations

import re
from collections.abc import Iterable

from deblur_cli.errors import VideoError
from deblur_cli.media.video import PixelFormat

_SHIFTS = {"444": (0, 0), "422": (1, 0), "420": (1, 1), "440": (0, 1), "411": (2, 0), "410": (2, 2)}
_PLANAR = re.compile(r"(?:yuv(?P<yuva>a?)(?P<chroma>\d{3})p|gbr(?P<rgba>a?)p|gray)(?P<depth>\d+)?(?:le)?")
_DEPTHS = frozenset({8, 9, 10, 12, 14, 16})

# Semi-planar and packed layouts by what they hold: chroma and depth of YCbCr, depth of RGB, with or without alpha.
_SEMI_PLANAR = {"nv12": "yuv420p", "nv21": "yuv420p", "nv16": "yuv422p", "nv20": "yuv422p10le"}
_PACKED_YUV = {
    **dict.fromkeys(("yuyv422", "uyvy422", "yvyu422"), "yuv422p"),
    **dict.fromkeys(("nv24", "nv42", "vuyx", "vyu444"), "yuv444p"),
    **dict.fromkeys(("vuya", "ayuv", "uyva"), "yuva444p"),
    **dict.fromkeys(("xv30", "v30x"), "yuv444p10le"),
    "uyyvyy411": "yuv411p",
    "ayuv64": "yuva444p16le",
    "xv36": "yuv444p12le",
    "xv48": "yuv444p16le",
}
_PACKED_RGB = {
    **dict.fromkeys(("rgb24", "bgr24", "0rgb", "rgb0", "0bgr", "bgr0", "pal8"), "gbrp"),
    **dict.fromkeys(("rgb8", "bgr8", "rgb4", "bgr4", "rgb4_byte", "bgr4_byte"), "gbrp"),
    **dict.fromkeys(("rgb565", "bgr565", "rgb555", "bgr555", "rgb444", "bgr444"), "gbrp"),
    **dict.fromkeys(("argb", "rgba", "abgr", "bgra", "ya8"), "gbrap"),
    **dict.fromkeys(("x2rgb10", "x2bgr10"), "gbrp10le"),
    **dict.fromkeys(("rgb48", "bgr48", "rgb96", "rgbf16", "rgbf32", "gbrpf16", "gbrpf32"), "gbrp16le"),
    **dict.fromkeys(("rgba64", "bgra64", "rgba128", "rgbaf16", "rgbaf32", "gbrapf16", "gbrapf32"), "gbrap16le"),
    **dict.fromkeys(("ya16", "yaf16", "yaf32", "gbrap32"), "gbrap16le"),
    "xyz12": "gbrp12le",
}
_GREY = {"monow": "gray", "monob": "gray", "grayf16": "gray16le", "grayf32": "gray16le", "gray32": "gray16le"}
_NEAREST = _SEMI_PLANAR | _PACKED_YUV | _PACKED_RGB | _GREY
# The semi-planar layouts that encoders of graphics cards take, often without a planar one beside them.
_ENCODED_SEMI_PLANAR = re.compile(r"nv1[26]|p[024]1[026]le")

_FOURCC_8_BIT = {
    "gray": b"Y800",
    "yuv420p": b"I420",
    "yuv422p": b"Y42B",
    "yuv444p": b"444P",
    "yuv440p": b"440P",
    "yuv411p": b"Y41B",
    "yuv410p": b"YUV9",
}
_FOURCC_CHROMA = {(0, 0): 0, (1, 0): 10, (1, 1): 11}


def planar(name: str) -> PixelFormat | None:
    """The planar format that ffmpeg calls `name`; None where it is no planar one of 8 to 16 bits, little-endian."""
    found = _PLANAR.fullmatch(name)
    if found is None:
        return None
    depth = int(found["depth"] or 8)
    if depth not in _DEPTHS or name.endswith("le") != (depth > 8):
        return None
    alpha = bool(found["yuva"] or found["rgba"])
    if found["chroma"]:
        if found["chroma"] not in _SHIFTS:
            return None
        return PixelFormat(name, "yuv", depth, *_SHIFTS[found["chroma"]], alpha=alpha)
    return PixelFormat(name, "grey" if name.startswith("gray") else "rgb", depth, alpha=alpha)


def nearest_planar(name: str) -> PixelFormat:
    """The planar format that holds what is in ffmpeg's pixel format `name`, at its depth, chroma sampling and alpha.

    Raises:
        VideoError: a format that nothing here stands for, such as one that lives on a graphics card.
    """
    stem = re.sub(r"(msb)?(le|be)$", "", name).replace("yuvj", "yuv")
    if stem.startswith("yuv440p1"):
        # No fourcc names 4:4:0 at more than 8 bits, so that it could not be handed to an encoder.
        stem = stem.replace("440", "444")
    if semi := re.fullmatch(r"p([024])(10|12|16)", stem):
        stem = f"yuv4{semi[1] * 2}p{semi[2]}".replace("400p", "420p")
    if packed := re.fullmatch(r"y2(10|12|16)", stem):
        stem = f"yuv422p{packed[1]}"
    if bayer := re.fullmatch(r"bayer_\w{4}(8|16)", stem):
        stem = "gbrp" if bayer[1] == "8" else "gbrp16"
    for candidate in (_NEAREST.get(stem), stem, f"{stem}le"):
        found = planar(candidate) if candidate else None
        if found is not None:
            return found
    raise VideoError(f"its pixel format '{name}' cannot be decoded to planes")


def fourcc(pixels: PixelFormat) -> bytes:
    """The four bytes by which ffmpeg's raw video decoder knows a planar format.

    Deeper formats follow the pattern of NUT's raw video codes: letter, number of planes, chroma sampling, bits.
    """
    if pixels.name in _FOURCC_8_BIT:
        return _FOURCC_8_BIT[pixels.name]
    planes = {"yuv": 3, "rgb": 3, "grey": 1}[pixels.kind] + pixels.alpha
    letter = "G" if pixels.kind == "rgb" else "Y"
    return bytes([ord(letter), ord(str(planes)), _FOURCC_CHROMA[pixels.shift_x, pixels.shift_y], pixels.depth])


def losses(wanted: PixelFormat, given: PixelFormat) -> list[str]:
    """What is lost when pixels of the format `wanted` are kept as `given`, one phrase each."""
    found = []
    if wanted.alpha and not given.alpha:
        found.append("transparency")
    if given.kind == "grey" != wanted.kind:
        found.append("colour")
    if wanted.kind == "rgb" != given.kind or (wanted.kind == "yuv" and given.kind == "rgb"):
        found.append(f"{wanted.kind.upper()} samples ({given.kind.upper()} now)")
    if wanted.depth > given.depth:
        found.append(f"{wanted.depth} bits a sample ({given.depth} now)")
    if (
        wanted.kind != "grey"
        and given.kind == "yuv"
        and (given.shift_x > wanted.shift_x or given.shift_y > wanted.shift_y)
    ):
        found.append("chroma resolution")
    return found


def least_loss(wanted: PixelFormat, names: Iterable[str], height: int, width: int, *, even: bool) -> str | None:
    """The name among ffmpeg's `names` that keeps most of the format `wanted`, and adds least; None where none serves.

    Args:
        even: whether pictures whose size is no multiple of the chroma sampling are refused by the encoder, so that a
            format of finer chroma must be taken for them.
    """
    candidates = []
    for name in names:
        # Encoders name packed RGB of 8 bits as well, which holds the same samples.
        packed = name in _PACKED_RGB and name not in {"pal8", "ya8"}
        semi_planar = _ENCODED_SEMI_PLANAR.fullmatch(name) is not None
        given = nearest_planar(name) if packed or semi_planar else planar(name)
        if given is None or (even and (width % (1 << given.shift_x) or height % (1 << given.shift_y))):
            continue
        candidates.append((_cost(wanted, given), semi_planar, name))
    return min(candidates)[2] if candidates else None


def _cost(wanted: PixelFormat, given: PixelFormat) -> tuple[int, ...]:
    """Losses before additions, the worst first."""
    if wanted.kind == "grey":
        wanted = PixelFormat(wanted.name, given.kind, wanted.depth, given.shift_x, given.shift_y, wanted.alpha)
        grey_missing = given.kind != "grey"
    else:
        grey_missing = False
    return (
        wanted.alpha and not given.alpha,
        given.kind == "grey" != wanted.kind,
        given.kind != wanted.kind,
        max(0, wanted.depth - given.depth),
        max(0, given.shift_x - wanted.shift_x) + max(0, given.shift_y - wanted.shift_y),
        grey_missing + 2 * (grey_missing and given.kind == "rgb"),
        max(0, given.depth - wanted.depth),
        max(0, wanted.shift_x - given.shift_x) + max(0, wanted.shift_y - given.shift_y),
        given.alpha and not wanted.alpha,
    )
