"""The journal: what was scored is there again, whole or not at all, and only for the run it belongs to."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deblur_cli.errors import UsageError
from deblur_cli.evaluation.benchmark import ImageResult
from deblur_cli.evaluation.datasets import Pair
from deblur_cli.evaluation.journal import RAN_AS, Journal
from deblur_cli.evaluation.metrics import Scores

PAIRS = [Pair("a", f"{number:03}", Path("blurred"), Path("sharp"), (20, 16)) for number in range(4)]
CONDITIONS = {"dataset": "GOPRO", "precision": "fp32", "models": [{"label": "lite", "sha256": None}]}
NUMBERS = st.floats(-1, 60, allow_nan=False)


def result(number: int, psnr: float = 30.0) -> ImageResult:
    return ImageResult(PAIRS[number], Scores(psnr, 0.1, 0.2), Scores(20.5, 0.3, 0.4), 0.25, 1.5, None)


def test_what_was_added_is_there_again_for_its_network_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path, CONDITIONS) as journal:
        journal.add("lite", result(0))
        journal.add("lite", result(1, psnr=math.inf))
        journal.add("other", result(2))
        journal.note("lite", "tiles were shrunk")
        assert journal.results("lite", PAIRS) == {}
    with Journal(path, CONDITIONS) as journal:
        assert journal.results("lite", PAIRS) == {PAIRS[0]: result(0), PAIRS[1]: result(1, psnr=math.inf)}
        assert journal.results("lite", PAIRS[1:]) == {PAIRS[1]: result(1, psnr=math.inf)}
        assert journal.results("other", PAIRS) == {PAIRS[2]: result(2)}
        assert (journal.notes("lite"), journal.notes("other")) == (["tiles were shrunk"], [])
        journal.add("lite", result(3))
    with Journal(path, CONDITIONS) as journal:
        assert len(journal.results("lite", PAIRS)) == 3


@settings(max_examples=25, deadline=None)
@given(NUMBERS, NUMBERS, st.none() | NUMBERS)
def test_numbers_come_back_to_the_last_digit(
    tmp_path_factory: pytest.TempPathFactory, psnr: float, ssim: float, flicker: float | None
) -> None:
    path = tmp_path_factory.mktemp("numbers") / "journal"
    kept = ImageResult(PAIRS[0], Scores(psnr, ssim, 0.1), Scores(ssim, psnr, 0.1), 0.1, flicker, flicker)
    with Journal(path, CONDITIONS) as journal:
        journal.add("lite", kept)
    with Journal(path, CONDITIONS) as journal:
        assert journal.results("lite", PAIRS) == {PAIRS[0]: kept}


def test_wherever_a_journal_was_cut_off_it_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path, CONDITIONS) as journal:
        header = path.stat().st_size
        for number in range(2):
            journal.add("lite", result(number))
    whole = path.read_bytes()
    ends = [whole.index(b"\n", header), len(whole) - 1]
    for length in range(header, len(whole)):
        path.write_bytes(whole[:length])
        with Journal(path, CONDITIONS) as journal:
            # An entry is whole without its newline.
            assert len(journal.results("lite", PAIRS)) == sum(length >= end for end in ends)
            journal.add("lite", result(3))
        with Journal(path, CONDITIONS) as journal:
            assert result(3) in journal.results("lite", PAIRS).values()


def test_a_journal_of_another_run_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path, CONDITIONS) as journal:
        journal.add("lite", result(0))
    before = path.read_bytes()
    with pytest.raises(UsageError, match=r"journal of a run under other conditions \(precision\)") as caught:
        Journal(path, CONDITIONS | {"precision": "bf16"})
    assert len(str(caught.value).splitlines()) == 1
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"a,b,c\n", b"[1]\n", b'{"journal": 7}\n', b"\xff\xfe"])
def test_what_is_no_journal_is_not_written_to(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "scores.csv"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="is no journal of deblur eval"):
        Journal(path, CONDITIONS)
    assert path.read_bytes() == content


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with a name")
def test_a_pipe_is_no_journal_and_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="is no regular file"):
        Journal(tmp_path / "pipe", CONDITIONS)


def test_a_changed_file_is_scored_again(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("blurred.png", "sharp.png", "frame.png")]
    for file in files:
        file.write_bytes(b"before")
    pair = replace(PAIRS[0], blurred=files[0], sharp=files[1], frames=(files[1], files[2]))
    scored = replace(result(0), pair=pair)
    path = tmp_path / "journal"
    for file in files:
        with Journal(path, CONDITIONS) as journal:
            assert journal.results("lite", [pair]) == {}
            journal.add("lite", scored)
        with Journal(path, CONDITIONS) as journal:
            assert journal.results("lite", [pair]) == {pair: scored}
        os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    with Journal(tmp_path / "fresh", CONDITIONS) as journal:
        assert journal.results("lite", [pair]) == {}
        files[0].write_bytes(b"after it was read, before its score was kept")
        journal.add("lite", scored)
    with Journal(tmp_path / "fresh", CONDITIONS) as journal:
        assert journal.results("lite", [pair]) == {}


def test_entries_of_older_journals_count_whatever_became_of_the_files(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path, CONDITIONS) as journal:
        journal.add("lite", result(0))
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    del entries[1]["files"]
    path.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    (tmp_path / "blurred").write_bytes(b"after")
    pair = replace(PAIRS[0], blurred=tmp_path / "blurred", sharp=tmp_path / "blurred")
    with Journal(path, CONDITIONS) as journal:
        assert journal.results("lite", [pair]) == {pair: replace(result(0), pair=pair)}


def test_what_auto_means_is_a_condition_that_older_journals_lack(tmp_path: Path) -> None:
    on_cpu, on_gpu = ({RAN_AS: {"lite": one}} for one in (["cpu", "fp32"], ["cuda", "fp16"]))
    with Journal(tmp_path / "older", CONDITIONS):
        pass
    with Journal(tmp_path / "older", CONDITIONS | on_gpu), Journal(tmp_path / "journal", CONDITIONS | on_cpu):
        pass
    with pytest.raises(UsageError, match=rf"other conditions \({RAN_AS}\)"):
        Journal(tmp_path / "journal", CONDITIONS | on_gpu)


def test_two_processes_share_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with Journal(path, CONDITIONS) as one, Journal(path, CONDITIONS) as other:
        for number in range(4):
            (one, other)[number % 2].add("lite", result(number))
    with Journal(path, CONDITIONS) as journal:
        assert list(journal.results("lite", PAIRS)) == PAIRS
