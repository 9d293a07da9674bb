"""Planning a run again, after files have been added to the inputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from deblur_cli.media.gather import gather_photos, gather_videos
from deblur_cli.media.plan import EXISTS, Plan, plan_photos, plan_videos


@pytest.fixture(params=["photos", "videos"])
def made(request: pytest.FixtureRequest, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Plans for `tmp_path/in`; a source of the first suffix becomes a file of the second, as one of that stays one."""
    gather, plan = (gather_photos, plan_photos) if request.param == "photos" else (gather_videos, plan_videos)
    suffixes = (".gif", ".png") if request.param == "photos" else (".avi", ".mkv")

    def run(**options: bool) -> Plan:
        return plan(gather([str(tmp_path / "in")], output=tmp_path / "out"), output=str(tmp_path / "out"), **options)

    return run, *suffixes


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_the_output_of_one_file_is_not_taken_for_that_of_one_that_came_later(made, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run, converted, kept = made
    touch(tmp_path / f"in/a{converted}")
    (first,) = run().items
    assert first.target == tmp_path / f"out/a{kept}"
    touch(first.target, tmp_path / f"in/a{kept}")
    by_name = {item.source.suffix: item for item in run().items}
    assert by_name[converted].target == tmp_path / f"out/a{converted}{kept}"
    assert by_name[converted].action == "restore"
    assert by_name[kept].action == "refuse"
    assert f"'{first.target}' may be of 'a{converted}' by an earlier run" in by_name[kept].reason
    assert [item.action for item in run(overwrite=True).items] == ["restore", "restore"]


def test_a_run_of_both_is_known_by_both_outputs(made, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run, converted, kept = made
    touch(tmp_path / f"in/a{converted}", tmp_path / f"in/a{kept}")
    for item in run().items:
        touch(item.target)
    assert [(item.action, item.reason) for item in run().items] == [("skip", EXISTS)] * 2
