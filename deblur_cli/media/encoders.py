"""How each codec is encoded: which encoder, at what quality by default, in which pixel format, into which container."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from deblur_cli.errors import UsageError, VideoError
from deblur_cli.media import ffmpeg
from deblur_cli.media.pixel_formats import least_loss, losses, nearest_planar, planar
from deblur_cli.media.probe import MasteringDisplay, VideoInfo
from deblur_cli.media.video import VideoFormat


@dataclass(frozen=True)
class Container:
    """What a kind of file can hold."""

    format: str
    """ffmpeg's name of its muxer."""
    codecs: tuple[str, ...]
    """Of video, by the names of `ENCODERS`; the first is taken where the source's own cannot be."""
    rotation: bool = True
    """Whether it says how a player turns the picture."""
    chapters: bool = True
    exact: bool = True
    """Whether its clock can be negative; where it cannot, all streams are shown later by what decoding needs ahead."""
    text: str | None = None
    """The codec that text subtitles are turned into where they cannot be copied."""


_MP4 = Container("mp4", ("h264", "hevc", "av1", "vp9"), text="mov_text")
_TS = Container("mpegts", ("h264", "hevc"), rotation=False, chapters=False, exact=False)
CONTAINERS = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": Container("mov", ("h264", "hevc", "prores", "ffv1"), text="mov_text"),
    ".mkv": Container("matroska", ("h264", "hevc", "av1", "vp9", "prores", "ffv1"), text="subrip"),
    ".webm": Container("webm", ("vp9", "av1"), text="webvtt"),
    ".ts": _TS,
    ".m2ts": _TS,
    ".mts": _TS,
    ".3gp": Container("3gp", ("h264",), chapters=False, text="mov_text"),
    ".flv": Container("flv", ("h264",), rotation=False, chapters=False, exact=False),
    ".avi": Container("avi", ("h264", "ffv1"), rotation=False, chapters=False),
}
"""The containers that are written, by the suffix of the file."""


@dataclass(frozen=True)
class Encoder:
    """An encoder of ffmpeg's and how it is used where nothing else is asked for."""

    name: str
    crf: int | None = None
    """The default quality (constant rate factor): less is better. None: it has no such scale."""
    preset: str | None = None
    """The default effort."""
    preset_option: str = "preset"
    """ffmpeg's name of the option that takes it."""
    options: tuple[str, ...] = ()
    even: bool = False
    """Whether it refuses sizes that are no multiple of the chroma sampling."""
    alpha: str | None = None
    """The one pixel format with alpha that players know, where it has others as well; None: any that it has."""
    presets: tuple[str, ...] = ()
    """What there is of efforts; nothing: not known."""
    mastering: str | None = None
    """How it is told of an HDR10 mastering display: the option that takes its parameters; None: it cannot be."""


_X26X = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"),
    *map(str, range(10)),
)

# The qualities are those at which each encoder's loss is not seen at normal viewing: x264 and x265 are usually called
# transparent from about 17 and 19 down; the AV1 and VP9 scales run to 63.
ENCODERS: dict[str, tuple[Encoder, ...]] = {
    "h264": (
        Encoder("libx264", 17, "medium", even=True, presets=_X26X, mastering="x264-params"),
        Encoder("libx264rgb", 17, "medium", presets=_X26X),
    ),
    "hevc": (
        Encoder(
            "libx265",
            19,
            "medium",
            options=("-x265-params", "log-level=error"),
            even=True,
            presets=_X26X,
            mastering="x265-params",
        ),
    ),
    "av1": (
        Encoder("libsvtav1", 22, "6", presets=tuple(map(str, range(-2, 14))), mastering="svtav1-params"),
        Encoder("libaom-av1", 20, "6", "cpu-used", ("-row-mt", "1"), presets=tuple(map(str, range(9)))),
    ),
    "vp9": (
        Encoder(
            "libvpx-vp9",
            22,
            "3",
            "cpu-used",
            ("-b:v", "0", "-row-mt", "1", "-deadline", "good"),
            alpha="yuva420p",
            presets=tuple(map(str, range(-8, 9))),
        ),
    ),
    "prores": (
        Encoder(
            "prores_ks",
            None,
            "auto",
            "profile:v",
            ("-vendor", "apl0"),
            presets=("auto", "proxy", "lt", "standard", "hq", "4444", "4444xq", *map(str, range(6))),
        ),
    ),
    "ffv1": (Encoder("ffv1", options=("-level", "3", "-g", "1", "-slicecrc", "1")),),
}
"""The codecs that are written, best encoder first."""

_EVERYDAY = {"h265": "hevc", "h.265": "hevc", "x265": "hevc", "h.264": "h264", "x264": "h264", "avc": "h264"}
# Most players show these two at half the chroma resolution only, and of no more bits than this.
_PLAYED_DEPTH = {"h264": 8, "hevc": 10}
_SVT_RATE = 240
"""The most frames a second that SVT-AV1 takes."""

# Sources without any loss go on without any, where the container takes it.
_LOSSLESS = frozenset({"rawvideo", "huffyuv", "ffvhuff", "utvideo", "magicyuv", "png", "qtrle", "v210", "v410", "r210"})


@dataclass(frozen=True)
class Encoding:
    """What was chosen for a video."""

    codec: str
    encoder: Encoder
    pixels: str
    """ffmpeg's name of the pixel format to encode."""
    arguments: tuple[str, ...]
    """Of ffmpeg's command line: the encoder's name and its options."""
    losses: tuple[str, ...]
    """What of the source is not written so, a line each."""


def container_of(target: Path) -> Container:
    """The container that the suffix of `target` names.

    Raises:
        VideoError: no such container is written.
    """
    found = CONTAINERS.get(target.suffix.lower())
    if found is None:
        raise VideoError(f"{target}: no video is written as '{target.suffix}'; take one of {', '.join(CONTAINERS)}")
    return found


def by_own_name(codec: str) -> str:
    """The name by which `ENCODERS` has a codec that is called by an everyday one (`x265`, `H.264`), or else `codec`."""
    name = codec.lower()
    return _EVERYDAY.get(name, name if name in ENCODERS else codec)


def check_preset(codec: str, preset: str) -> None:
    """Raise where no encoder that `codec` (or `auto`) may stand for has the effort `preset`, as far as that is known.

    Raises:
        UsageError: none has it.
    """
    every = [encoder for encoders in ENCODERS.values() for encoder in encoders]
    possible = ENCODERS.get(codec) or tuple(
        encoder for encoder in every if codec == "auto" or (codec == encoder.name and encoder.preset_option == "preset")
    )
    known = dict.fromkeys(name for encoder in possible for name in encoder.presets)
    if known and preset not in known:
        whose = "no codec" if codec == "auto" else f"no {codec}"
        raise UsageError(f"{whose} has a preset '{preset}'; there are {', '.join(known)}")


def choose(
    target: Path,
    video: VideoFormat,
    source: VideoInfo | None = None,
    *,
    codec: str = "auto",
    crf: float | None = None,
    preset: str | None = None,
    pixels: str | None = None,
    rated: bool = False,
) -> Encoding:
    """Choose encoder, pixel format and options for writing `video` to `target`.

    Args:
        target: the file; its suffix says the container.
        video: what the frames are.
        source: the file they come from: its codec is followed, its HDR10 data are kept.
        codec: `auto`, a name of `ENCODERS`, or the name of any encoder that this ffmpeg has (`hevc_nvenc`).
        crf: quality in the encoder's own scale.
        preset: effort in the encoder's own scale; for ProRes the profile.
        pixels: ffmpeg's name of the pixel format that a user asks for; an encoder that has it is taken.
        rated: whether a user asks for a bit rate or a fixed quantiser, so that there is no default quality.

    Raises:
        VideoError: the container is not written or does not hold the codec; there is no encoder for it.
        UsageError: the codec has no such scale, or the encoder no such effort.
    """
    container = container_of(target)
    family = _follow(source, container) if codec == "auto" else codec
    if family not in ENCODERS and family not in ffmpeg.encoders():
        raise VideoError(f"there is no video codec '{codec}'; take one of {', '.join(ENCODERS)}, or an encoder's name")
    if family in ENCODERS and family not in container.codecs:
        fitting = ", ".join(suffix for suffix, other in CONTAINERS.items() if family in other.codecs)
        raise VideoError(f"{target}: a '{target.suffix}' file does not hold {family}; take one of {fitting}")
    named = pixels
    encoder, pixels, fuller = _encoder(family, video, source, named)
    asked = _among(_formats(encoder.name), named)
    lost = losses(video.pixels, nearest_planar(asked or pixels))
    if named is not None and asked is None and _formats(encoder.name):
        lost.append(f"the pixel format {named} (one that is near, by ffmpeg's choice)")
    if fuller is not None:
        anyway = losses(video.pixels, nearest_planar(fuller))
        given_up = " and ".join(loss for loss in lost if loss not in anyway)
        lost = [loss for loss in lost if loss in anyway]
        if given_up:
            lost.append(f"{given_up}, in what most players show (--ffmpeg-args '-pix_fmt {fuller}' keeps more)")
    arguments = [encoder.name, *_quality(encoder, family, crf, preset, pixels, rated), *encoder.options]
    if source is not None and (source.mastering_display or source.content_light):
        if encoder.mastering is None:
            lost.append("HDR10 mastering data")
        else:
            arguments = with_parameters(arguments, encoder.mastering, _hdr10(source, encoder.name))
    if encoder.name == "libsvtav1":
        rate = _rate(video, source)
        told = f"fps-num={rate.numerator}:fps-denom={rate.denominator}"
        arguments = with_parameters(arguments, "svtav1-params", told)
    if video.colour.full_range and nearest_planar(pixels).kind != "rgb" and family in {"ffv1", "prores"}:
        if container.format == "matroska":
            # ffmpeg believes that these two are of limited range only, and would squeeze the samples.
            arguments += ["-color_range", "pc"]
        else:
            lost.append("full range (limited now)")
    if container.format == "avi":
        # AVI has no timestamps, so that frames have to lie in it in the order in which they are shown.
        arguments += ["-bf", "0"]
    if family == "vp9" and nearest_planar(pixels).alpha:
        arguments += ["-auto-alt-ref", "0"]
    unwritten = tuple(f"{loss}: not written by {encoder.name}" for loss in lost)
    return Encoding(family, encoder, pixels, tuple(arguments), unwritten)


def _follow(source: VideoInfo | None, container: Container) -> str:
    """The codec for `auto`: the source's own, or else what the container takes."""
    wanted = ""
    if source is not None:
        wanted = {"vp8": "vp9"}.get(source.codec, source.codec)
        if source.codec in _LOSSLESS:
            wanted = "ffv1" if container.format in {"matroska", "avi"} else "prores"
    return wanted if wanted in container.codecs else container.codecs[0]


def _present(family: str, source: VideoInfo | None, named: str | None) -> list[Encoder]:
    """The encoders for a codec that this ffmpeg has; where some of them have the pixel format `named`, those."""
    known = ENCODERS.get(family, (Encoder(family),))
    # Hardly any player shows H.264 in RGB; it is for sources that are so already, and for who asks for it.
    asked = family == "libx264rgb" or _among(_formats("libx264rgb"), named)
    rgb = asked or (source is not None and source.codec == "h264")
    present = [e for e in known if e.name in ffmpeg.encoders() and (rgb or e.name != "libx264rgb")]
    if not present:
        names = ", ".join(encoder.name for encoder in known)
        has = [name for name, some in ENCODERS.items() if any(e.name in ffmpeg.encoders() for e in some)]
        raise VideoError(
            f"this ffmpeg has no encoder for {family} ({names}); it has {', '.join(has) or 'none that is known here'}"
        )
    return [encoder for encoder in present if _among(_formats(encoder.name), named)] or present


def _encoder(
    family: str, video: VideoFormat, source: VideoInfo | None, named: str | None
) -> tuple[Encoder, str, str | None]:
    """The encoder that loses least, the pixel format for it, and the one that would be but for the players."""
    present = _present(family, source, named)
    chosen: list[tuple[int, int, Encoder, str, str | None]] = []
    for encoder in present:
        formats = _formats(encoder.name) or ["yuv420p"]
        if encoder.alpha:
            formats = [name for name in formats if name == encoder.alpha or not nearest_planar(name).alpha]
        asked = _among(formats, named)
        narrowed = asked is not None and planar(asked) is not None
        if asked and narrowed:
            formats = [asked]
        best = least_loss(video.pixels, formats, video.height, video.width, even=encoder.even)
        fuller = None
        if not narrowed and source is None and (depth := _PLAYED_DEPTH.get(family)):
            # Pictures say nothing of how a video of them is to be; whoever is sent it wants to see it.
            halved = [
                name
                for name in formats
                if (found := planar(name)) and (found.shift_x, found.shift_y) == (1, 1) and found.depth <= depth
            ]
            played = least_loss(video.pixels, halved, video.height, video.width, even=encoder.even)
            if played not in {None, best}:
                best, fuller = played, best if named is None else None
        if best is not None:
            chosen.append((len(losses(video.pixels, nearest_planar(best))), len(chosen), encoder, best, fuller))
    if not chosen:
        raise VideoError(f"{present[0].name} takes no pixel format that holds {video.width}x{video.height} pixels")
    _, _, encoder, pixels, fuller = min(chosen, key=lambda option: option[:2])
    return encoder, pixels, fuller


def _among(formats: Sequence[str], named: str | None) -> str | None:
    """The one of `formats` that a user calls `named`, with or without the byte order, as ffmpeg takes it."""
    name = (named or "").removeprefix("+")
    return next((each for each in (name, f"{name}le") if each in formats), None)


def _formats(encoder: str) -> list[str]:
    """Names of the pixel formats of an encoder; none where this ffmpeg has no such, or it does not say."""
    return ffmpeg.encoder_formats(encoder) if encoder in ffmpeg.encoders() else []


def _quality(
    encoder: Encoder, family: str, crf: float | None, preset: str | None, pixels: str, rated: bool
) -> list[str]:
    if crf is not None and encoder.crf is None and family in ENCODERS:
        raise UsageError(f"{family} has no quality scale (crf)")
    if preset is not None and encoder.preset is None and family in ENCODERS:
        raise UsageError(f"{family} has no presets")
    if preset and encoder.presets and preset not in encoder.presets:
        raise UsageError(f"{encoder.name} has no preset '{preset}'; it has {', '.join(encoder.presets)}")
    preset = preset or encoder.preset
    if family == "prores" and preset == "auto":
        preset = "hq" if nearest_planar(pixels).shift_x else "4444"
    # Encoders heed a bit rate or a quantiser only where they have no such quality.
    value = encoder.crf if crf is None and not rated else crf
    quality = [] if value is None else ["-crf", f"{value:g}"]
    return quality + ([] if preset is None else [f"-{encoder.preset_option}", preset])


def with_parameters(arguments: Sequence[str], option: str, parameters: str) -> list[str]:
    """`arguments` with `parameters` added to those that `option` has already."""
    found = list(arguments)
    if f"-{option}" in found:
        at = found.index(f"-{option}") + 1
        found[at] = f"{found[at]}:{parameters}"
        return found
    return [*found, f"-{option}", parameters]


def _rate(video: VideoFormat, source: VideoInfo | None) -> Fraction:
    """The frame rate that SVT-AV1 is told.

    The frames that go to ffmpeg have a time each, and no rate. It guesses one from the first of them: the clock's ticks
    a second where there are one or two, or at irregular times.
    """
    if source is not None and source.average_rate:
        return min(source.average_rate, Fraction(_SVT_RATE))
    ticks = 1 / video.time_base
    return ticks if ticks <= _SVT_RATE else Fraction(25)


def _hdr10(source: VideoInfo, encoder: str) -> str:
    """Mastering display and content light in an encoder's own words.

    x264 and x265 take whole numbers in units of 0.00002 and 0.0001 cd/m², as the standards store them; SVT-AV1 takes
    the numbers themselves.
    """
    svt = encoder == "libsvtav1"
    found = []
    if source.mastering_display is not None:
        shown = _mastering(source.mastering_display, Fraction(1) if svt else None)
        found.append(f"{'master-display' if encoder == 'libx265' else 'mastering-display'}={shown}")
    if source.content_light is not None:
        name = {"libsvtav1": "content-light", "libx265": "max-cll", "libx264": "cll"}[encoder]
        found.append(f"{name}={source.content_light[0]},{source.content_light[1]}")
    return ":".join(found)


def _mastering(display: MasteringDisplay, unit: Fraction | None) -> str:
    def pair(values: tuple[Fraction, Fraction], scale: int) -> str:
        if unit is not None:
            return ",".join(f"{float(value):.6f}" for value in values)
        return ",".join(str(round(value * scale)) for value in values)

    points = (("G", display.green), ("B", display.blue), ("R", display.red), ("WP", display.white))
    chromaticity = "".join(f"{name}({pair(point, 50_000)})" for name, point in points)
    least, greatest = display.luminance
    return f"{chromaticity}L({pair((greatest, least), 10_000)})"
