"""Which metadata of a file containers have room for, checked with what ffmpeg writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from deblur_cli.media.encoders import container_of
from deblur_cli.media.file_metadata import unheld
from deblur_cli.media.probe import probe
from deblur_cli.media.streams import copied
from tests.media.video_samples import H264, make

PICTURE = ("-f", "lavfi", "-i", "color=s=64x48:r=25:d=0.04")
SPECIAL = {
    "date": "2024-05-06",
    "creation_time": "2024-05-06T05:08:09.000000Z",
    "location": "+48.8577+002.2950/",
    "track": "3/4",
    "disc": "1/2",
    "timecode": "01:00:00:00",
    "episode_sort": "1",
    "season_number": "2",
    "media_type": "10",
    "hd_video": "1",
    "gapless_playback": "1",
    "compilation": "1",
}
PLAIN = """
title artist album_artist composer album comment genre copyright grouping lyrics description synopsis show episode_id
network keywords make model author performer director publisher encoded_by year software service_name IARL
"""
NAMES = [*SPECIAL, *PLAIN.split()]
TAGS = {name: SPECIAL.get(name, f"the {name}") for name in NAMES}
BRANDS = {"major_brand": "qt  ", "minor_version": "512", "compatible_brands": "qt  "}
VP9 = ("-c:v", "libvpx-vp9", "-cpu-used", "8")


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".avi", ".flv", ".mkv", ".webm"])
def test_what_is_said_to_be_lost_is_what_is_not_found_in_the_file(suffix: str, tmp_path: Path) -> None:
    tags = [part for name, value in TAGS.items() for part in ("-metadata", f"{name}={value}")]
    written = probe(make(tmp_path / f"tagged{suffix}", *PICTURE, *(VP9 if suffix == ".webm" else H264), *tags))
    # Time codes are the video track's in some; AVI has the album as a product, and ffmpeg's own name as the software.
    given = dict(written.metadata) | dict(written.file_metadata)
    found = {name.lower() for name, value in given.items() if not value.startswith("Lavf")}
    missing = [name for name in NAMES if not {name.lower(), {"album": "product"}.get(name)} & found]
    assert sorted(unheld(TAGS, container_of(Path(f"x{suffix}")).format)) == sorted(missing)


@pytest.mark.parametrize("suffix", [".3gp", ".ts"])
def test_what_ffmpeg_writes_and_does_not_read_is_not_lost(suffix: str, tmp_path: Path) -> None:
    texts = {name: value for name, value in TAGS.items() if value.startswith("the ") and name != "service_name"}
    tags = [part for name, value in texts.items() for part in ("-metadata", f"{name}={value}")]
    written = make(tmp_path / f"tagged{suffix}", *PICTURE, *H264, *tags).read_bytes()
    missing = [name for name, value in texts.items() if value.encode() not in written]
    assert "make" in missing and "title" not in missing
    assert unheld(texts, container_of(Path(f"x{suffix}")).format) == missing


def test_of_a_date_3gp_has_the_year() -> None:
    assert unheld({"date": "2024-05-06", "make": "Apple"}, "3gp") == ["date (but for its year)", "make"]
    assert unheld({"date": "2024"}, "3gp") == []


@pytest.mark.parametrize("muxer", ["mpegts", "3gp", "avi", "mp4"])
def test_what_is_of_the_old_file_is_not_lost(muxer: str) -> None:
    statistics = {"DURATION": "00:00:01", "NUMBER_OF_FRAMES-eng": "3", "_STATISTICS_TAGS": "BPS"}
    assert unheld(BRANDS | statistics | {"ENCODER": "x", "software": "Lavf61.1.100"}, muxer) == []
    assert unheld({"title-eng": "x"}, muxer) == []


def test_a_telephone_s_metadata_are_kept_or_said_by_name_in_one_line(tmp_path: Path) -> None:
    keys = ("com.apple.quicktime.make=Apple", "com.apple.quicktime.location.ISO6709=+48.8577+002.2950/")
    tags = [part for key in (*keys, "creation_time=2024-05-06T05:08:09Z") for part in ("-metadata", key)]
    source = make(tmp_path / "phone.mov", *PICTURE, *H264, "-movflags", "+use_metadata_tags", *tags)
    info = probe(source)
    for suffix in (".mov", ".mp4", ".mkv"):
        assert copied(info, container_of(Path(f"x{suffix}"))).dropped == []
    (_, line) = copied(info, container_of(Path("x.ts"))).dropped
    told, reason = line.split(": ")
    assert reason == "a mpegts file does not hold them"
    named = {"com.apple.quicktime.make", "com.apple.quicktime.location.ISO6709", "creation_time"}
    assert set(told.removeprefix("the metadata ").split(", ")) == named


def test_one_name_is_one(tmp_path: Path) -> None:
    info = probe(make(tmp_path / "a.mkv", *PICTURE, *H264, "-metadata", "title=Pan", "-metadata", "director=Me"))
    lines = copied(info, container_of(Path("x.3gp"))).dropped
    assert lines == ["the metadata DIRECTOR: a 3gp file does not hold it"]


@pytest.mark.parametrize("suffix", [".mov", ".mp4"])
def test_keys_of_ones_own_stay_in_a_file_that_has_a_table_of_them(suffix: str, tmp_path: Path) -> None:
    named = ("-metadata", "lens=50 mm", "-metadata", "title=Pan", "-metadata", "make=Leica")
    tabled = make(tmp_path / f"a{suffix}", *PICTURE, *H264, *named, "-movflags", "+use_metadata_tags")
    for target in (tmp_path / "b.mov", tmp_path / "b.mp4"):
        plan = copied(probe(tabled), container_of(target))
        assert plan.dropped == []
        written = probe(make(target, "-i", tabled, "-i", tabled, *plan.maps, "-c", "copy", *plan.options))
        assert {"lens": "50 mm", "title": "Pan", "make": "Leica"}.items() <= dict(written.file_metadata).items()
        assert ";" not in written.file_metadata["minor_version"], "what kind of file it was is no metadata"
    plain = make(tmp_path / "plain.mkv", *PICTURE, *H264, *named)
    assert copied(probe(plain), container_of(tmp_path / "b.mp4")).dropped != []
