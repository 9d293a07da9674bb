"""What a command works on, photos or videos, as far as finding files and naming outputs must know it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from deblur_cli.media.encoders import CONTAINERS
from deblur_cli.media.formats import SUFFIXES, WRITABLE


@dataclass(frozen=True)
class Material:
    """A kind of file."""

    noun: str
    """What one is called; the plural has an s behind it."""
    formats: Mapping[str, str]
    """Lower-case suffix of a file that can be read, and its format."""
    writable: frozenset[str]
    """The formats that can be written."""
    unreadable: frozenset[str] = frozenset()
    """Suffixes of such files that cannot be read: one found in a folder is refused by name, not passed over."""
    sequences: bool = False
    """Whether a folder of numbered pictures is one input."""

    @property
    def not_one(self) -> str:
        """What files of another kind are counted as."""
        return f"not a {self.noun}"


# fmt: off
_UNREADABLE_PICTURES = frozenset((
    ".3fr", ".arw", ".cr2", ".cr3", ".crw", ".dcm", ".dcr", ".dds", ".dng", ".erf", ".exr", ".fff",
    ".fits", ".gpr", ".hdr", ".ico", ".icns", ".iiq", ".j2k", ".jp2", ".jpx", ".jxl", ".jxr", ".kdc",
    ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pam", ".pcx", ".pef", ".pfm", ".psb", ".psd",
    ".qoi", ".raf", ".raw", ".rw2", ".rwl", ".sgi", ".sr2", ".srf", ".srw", ".svg", ".tga", ".wmf",
    ".x3f", ".xcf",
))
_READ_ONLY_VIDEOS = (
    ".264", ".265", ".3g2", ".asf", ".divx", ".dv", ".f4v", ".h264", ".h265", ".hevc", ".ivf",
    ".m1v", ".m2p", ".m2t", ".m2v", ".mjpeg", ".mjpg", ".mpe", ".mpeg", ".mpg", ".mxf", ".nut",
    ".ogm", ".ogv", ".qt", ".rm", ".rmvb", ".tod", ".vob", ".wmv", ".y4m",
)
# fmt: on

PHOTOS = Material("photo", SUFFIXES, frozenset(WRITABLE), _UNREADABLE_PICTURES)
# AVI has no timestamps: what is written in segments and joined would not stand where it stood.
VIDEOS = Material(
    "video",
    {suffix: container.format for suffix, container in CONTAINERS.items()}
    | {suffix: suffix[1:] for suffix in _READ_ONLY_VIDEOS},
    frozenset(container.format for container in CONTAINERS.values()) - {"avi"},
    sequences=True,
)


def video_extension(extension: str, codec: str = "auto") -> str:
    """The extension of an output whose source has this one: the same where such files are written and hold `codec`.

    Others become `.mkv`, which holds any codec, but ProRes, which is at home in `.mov`, and what has no known
    extension (a folder of pictures), which becomes `.mp4` where that holds the codec.
    """
    own = CONTAINERS.get(extension.lower())
    if own is not None and own.format in VIDEOS.writable and (codec not in _codecs() or codec in own.codecs):
        return extension
    if codec == "prores":
        return ".mov"
    unknown = extension.lower() not in VIDEOS.formats
    return ".mp4" if unknown and (codec not in _codecs() or codec in CONTAINERS[".mp4"].codecs) else ".mkv"


def _codecs() -> frozenset[str]:
    """The codecs whose containers are known; others are encoders that a user names."""
    return frozenset(codec for container in CONTAINERS.values() for codec in container.codecs)
