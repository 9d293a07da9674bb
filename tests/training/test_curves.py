"""The curves of a run whose file a full disk or a power cut has left damaged."""

from pathlib import Path

import pytest

from deblur_cli.training.curves import Curves

_WHOLE = b"step,loss,rate,elapsed,set,psnr\r\n50,0.1,1.000e-03,1.0,,\r\n100,0.2,1.000e-03,2.0,,\r\n"


@pytest.mark.parametrize("damage", [b"12", b"10", b"100,0.2,1.000e-03,2.0,synthe", b"\0" * 200_000, b"\xff\xfe\n"])
def test_what_is_left_of_a_row_is_passed_over_when_a_run_goes_on(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "curves.csv"
    path.write_bytes(_WHOLE + damage)
    with Curves(path, 100, active=True):
        pass
    assert path.read_bytes() == _WHOLE
