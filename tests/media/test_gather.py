"""What cannot be reached, or is no file, is one refusal beside all the others."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from deblur_cli.media.gather import Disk, gather_photos


def close(*closed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody look behind these paths, not even root."""
    real: Callable[..., os.stat_result] = Path.stat

    def refused(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if self in closed and follow_symlinks:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return real(self, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", refused)


@pytest.mark.parametrize("inputs", [["."], ["*.png"], ["**/*.png"], ["l.png", "ok.png"]])
def test_a_link_to_where_nobody_may_look_does_not_end_the_batch(
    tmp_path: Path, inputs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "l.png").symlink_to("/somewhere/closed.png")
    (tmp_path / "ok.png").touch()
    close(tmp_path / "l.png", monkeypatch=monkeypatch)
    found = gather_photos([str(tmp_path / name) for name in inputs]).files
    assert [(each.path.name, each.refusal) for each in found] == [
        ("l.png", "cannot be reached: Permission denied"),
        ("ok.png", ""),
    ]


def test_a_folder_below_a_closed_one_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = tmp_path / "closed" / "below"
    close(below, monkeypatch=monkeypatch)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    assert not Disk().is_writable(below)


@pytest.mark.skipif(os.name == "nt", reason="there are no devices")
def test_a_link_to_a_device_leads_somewhere(tmp_path: Path) -> None:
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "gone.png").symlink_to("nothing.png")
    found = {each.path.name: each.refusal for each in gather_photos([str(tmp_path)]).files}
    assert found["zero.png"] == "is no regular file; use - to read a stream"
    assert found["gone.png"] == "is a link that leads nowhere"
