"""Planning: names of outputs that no file can have are found before the work, and not after it."""

from __future__ import annotations

from pathlib import Path

import pytest

from deblur_cli.media.gather import gather_photos
from deblur_cli.media.plan import plan_photos


@pytest.mark.parametrize(("stem", "output", "action"), [("x" * 251, None, "refuse"), ("x" * 251, "out", "restore")])
def test_a_name_that_gets_too_long_is_refused_before_the_network_runs(
    stem: str, output: str | None, action: str, tmp_path: Path
) -> None:
    (tmp_path / f"{stem}.png").write_bytes(b"x")
    target = None if output is None else tmp_path / output
    gathered = gather_photos([str(tmp_path / f"{stem}.png")], output=target)
    (item,) = plan_photos(gathered, output=None if target is None else f"{target}/").items
    assert item.action == action
    assert ("would be too long; give another --output" in item.reason) == (action == "refuse")
