"""`deblur eval --align`: pairs whose two pictures lie beside each other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from tests.evaluation.pictures import gopro, kohler, write

PHOTO = Path(__file__).parents[2] / "sample_media/photos/astronaut.jpg"


def test_pictures_beside_their_sharp_ones_are_aligned_where_asked(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    photo = np.asarray(Image.open(PHOTO).convert("RGB").resize((128, 128)))
    for number, shift in enumerate((1, 3)):
        for folder, moved in (("blurred", shift), ("sharp", 0)):
            write(tmp_path / "test" / folder / f"a/{number}.png", photo[4 + moved : 100 + moved, 4:120])
    folders = ("--blurred", tmp_path / "test/blurred", "--sharp", tmp_path / "test/sharp")
    command = ["eval", "--device", "cpu", "-m", "test-tiny"]
    scores = {}
    for options in ((), ("--align",)):
        result = run([*command, *map(str, folders), *options, "--json", str(tmp_path / "scores.json")])
        assert result.code == 0, result.stderr
        found = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
        scores[options] = found["blurred"]["psnr"]
        assert found["protocol"]["name"] == ("aligned" if options else "pixelwise")
        assert found["dataset"]["video"] is True  # which a recurrent network sees in order either way
        assert ("aligned as RealBlur is" in result.stdout) == bool(options)
    assert scores["--align",] > 30 > 25 > scores[()]
    gopro(tmp_path / "gopro")
    assert "aligned (--align), so not comparable with" in run([*command, str(tmp_path / "gopro"), "--align"]).stdout
    kohler(tmp_path / "kohler", {(1, 1): 3})
    refused = run([*command, str(tmp_path / "kohler"), "--align"])
    assert refused.code == 2
    assert "aligned by their own protocol already; leave --align out" in refused.stderr
