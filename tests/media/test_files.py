"""A file is whole or not there."""

from __future__ import annotations

import errno
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from deblur_cli.media.files import is_temporary, remove_stale, replacing, temporary_name


def test_a_temporary_is_hidden_beside_its_target_and_recognised(tmp_path: Path) -> None:
    target = tmp_path / "harbour.v2.jpg"
    temporary = temporary_name(target)
    assert temporary.parent == tmp_path
    assert temporary.name.startswith(".") and temporary.name.endswith(".part") and "harbour.v2.jpg" in temporary.name
    assert not is_temporary(temporary, tmp_path / "v2.jpg")
    assert is_temporary(temporary) and is_temporary(temporary, target)
    assert not is_temporary(temporary, tmp_path / "other.jpg")
    assert temporary_name(target) != temporary


@pytest.mark.parametrize("name", [".hidden.part", "photo.jpg", ".part", ".photo.jpg.part", "photo.0123abcd.part", "."])
def test_what_a_user_may_have_is_no_temporary(name: str) -> None:
    assert not is_temporary(Path(name))


def test_the_longest_names_have_temporaries(tmp_path: Path) -> None:
    target = tmp_path / ("ü" * 125 + ".jpg")
    with replacing(target) as stream:
        stream.write(b"whole")
    assert target.read_bytes() == b"whole"
    assert is_temporary(temporary_name(target), target)


def test_an_error_leaves_the_target_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "a.png"
    target.write_bytes(b"before")
    with pytest.raises(KeyboardInterrupt), replacing(target) as stream:
        stream.write(b"half")
        raise KeyboardInterrupt
    assert target.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_at_the_last_moment_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space") as raised, replacing(tmp_path / "a.png") as stream:
        stream.write(b"all of it")
    assert list(tmp_path.iterdir()) == []
    assert raised.value.filename == str(tmp_path / "a.png"), "or who is told would not know what there is no room for"


def test_what_cannot_be_made_is_told_by_its_own_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised, replacing(tmp_path / "gone" / "a.png"):
        pass
    assert raised.value.filename == str(tmp_path / "gone" / "a.png")


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "a.png") as stream:
            stream.write(b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o640


def test_what_is_being_written_is_no_leftover_up_to_its_last_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Path.replace

    def replace_late(self: Path, target: Path) -> Path:
        assert remove_stale([tmp_path / "a.png"]) == 0  # as another run that begins just now
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace_late)
    with replacing(tmp_path / "a.png") as stream:
        stream.write(b"whole")
    assert (tmp_path / "a.png").read_bytes() == b"whole"


def test_a_leftover_that_cannot_be_opened_is_left_and_the_others_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign, own = tmp_path / ".a.png.00000000.part", tmp_path / ".a.png.11111111.part"
    foreign.write_bytes(b"half")
    own.write_bytes(b"half")
    real = Path.open

    def refused(self: Path, *more: Any) -> Any:  # another user's; as root these tests could open it
        if self == foreign:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return real(self, *more)

    monkeypatch.setattr(Path, "open", refused)
    assert remove_stale([tmp_path / "a.png"]) == 1
    assert list(tmp_path.iterdir()) == [foreign]


def test_a_folder_that_cannot_be_listed_does_not_keep_the_leftovers_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leftover = tmp_path / ".a.png.00000000.part"
    leftover.touch()
    real = Path.iterdir

    def refused(self: Path) -> Any:
        if self.name == "closed":
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return real(self)

    monkeypatch.setattr(Path, "iterdir", refused)
    (tmp_path / "closed").mkdir()
    assert remove_stale([tmp_path / "closed" / "a.png", tmp_path / "missing" / "a.png", tmp_path / "a.png"]) == 1
    assert not leftover.exists()


def test_a_disk_that_may_be_written_no_more_is_told_of_by_the_targets_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, *_: Any) -> Any:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(os, "replace", refused)
    monkeypatch.setattr(os, "unlink", refused)  # what remains cannot be removed either
    with pytest.raises(OSError, match="Read-only") as raised, replacing(tmp_path / "a.png") as stream:
        stream.write(b"half")
    assert raised.value.filename == str(tmp_path / "a.png")


@pytest.mark.skipif(os.name == "nt", reason="there are no named pipes")
def test_what_is_no_regular_file_is_written_to_and_stays_what_it_is(tmp_path: Path) -> None:
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(os.devnull)
    with ThreadPoolExecutor(1) as other:
        heard = other.submit(pipe.read_bytes)
        with replacing(pipe) as stream:
            stream.write(b"a report")
        assert heard.result(timeout=10) == b"a report"
    with replacing(link) as stream:
        stream.write(b"a report")
    assert stat.S_ISFIFO(pipe.stat().st_mode) and link.is_symlink() and sorted(tmp_path.iterdir()) == [link, pipe]
