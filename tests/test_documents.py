"""JSON that other programs read."""

import json
import math
import os
from pathlib import Path

import pytest
import torch

import deblur_cli
from deblur_cli.documents import versions, write_json


def test_names_that_are_no_text_come_back_as_they_were(tmp_path: Path) -> None:
    name = os.fsdecode(b"6\xff.png")
    write_json({"source": name, "word": "Köhler"}, tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"source": name, "word": "Köhler"}


def test_what_json_has_no_word_for_is_refused_and_the_old_document_stays(tmp_path: Path) -> None:
    write_json({"psnr": 30.0}, tmp_path / "a.json")
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json({"psnr": math.inf}, tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_bytes()) == {"psnr": 30.0}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_versions_are_those_that_compute() -> None:
    assert versions()["deblur"] == deblur_cli.__version__
    assert versions()["torch"] == torch.__version__
