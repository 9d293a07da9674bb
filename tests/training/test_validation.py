import weakref
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deblur_cli.evaluation.metrics import psnr
from deblur_cli.training.blur import BlurSettings
from deblur_cli.training.data import PhotoSource
from deblur_cli.training.unrolled import Unrolled
from deblur_cli.training.validation import ValidationSet, Validator, paired_set, synthetic_set

CPU = torch.device("cpu")


class Memory(nn.Module):
    """Gives the first frame of a sequence for each of its frames."""

    def forward(self, blurred: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        first = blurred if state is None else state
        return first, first


def write_pairs(folder: Path, names: list[str], side: int = 40) -> list[tuple[Path, Path]]:
    """Pictures of noise, blurred and sharp."""
    pairs = []
    for name in names:
        files = folder / "blur" / name, folder / "sharp" / name
        for number, file in enumerate(files):
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng([number, *name.encode()]).integers(0, 256, (side, side, 3), dtype=np.uint8)
            cv2.imwrite(str(file), pixels)
        pairs.append(files)
    return pairs


def test_pictures_numbered_in_a_row_are_scored_as_sequences(tmp_path: Path) -> None:
    one, other = (tmp_path / name for name in ("one", "other"))
    files = write_pairs(one, [f"{number:06d}.png" for number in (3, 4, 5, 6, 9)])
    files += write_pairs(other, ["000010.png"]) + write_pairs(other, ["000011.png"], side=48)
    held_out = paired_set("pairs", files, frames=3)
    assert [tuple(blurred.shape) for blurred, _ in held_out.pairs] == [
        (3, 3, 40, 40), (1, 3, 40, 40), (1, 3, 40, 40), (1, 3, 40, 40), (1, 3, 48, 48)
    ]  # fmt: skip
    assert all(blurred.shape == sharp.shape for blurred, sharp in held_out.pairs)
    assert [len(blurred) for blurred, _ in paired_set("pairs", files).pairs] == [1] * 7

    scores = Validator([held_out], CPU).score(Unrolled(Memory(), recurrent=True))
    (blurred, sharp), *rest = held_out.pairs
    frames = [(blurred[:1].expand_as(sharp), sharp), *rest]
    each = torch.cat([psnr(image.float(), target.float(), data_range=255) for image, target in frames])
    assert scores["pairs"] == pytest.approx(float(each.mean()))


@pytest.mark.parametrize("frames", [1, 3])
def test_pictures_are_held_once(tmp_path: Path, frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    read = weakref.WeakSet[Tensor]()
    most = 0

    def load(file: Path) -> Tensor:
        nonlocal most
        picture = torch.zeros(3, 8, 8, dtype=torch.uint8)
        read.add(picture)
        most = max(most, len(read))
        return picture

    monkeypatch.setattr("deblur_cli.training.validation.load_picture", load)
    files = [(tmp_path / f"blur{number:02}.png", tmp_path / f"sharp{number:02}.png") for number in range(12)]
    assert len(paired_set("pairs", files, frames).pairs) == 12 // frames
    assert most <= 2 * 2 * frames + 2  # of two sequences, beside what they are put together to


def test_pictures_without_any_difference_leave_a_score() -> None:
    sky = torch.full((1, 3, 32, 32), 255, dtype=torch.uint8)
    noise = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    scores = Validator([ValidationSet("held out", [(sky, sky), (noise.roll(1, -1), noise)])], CPU).score(
        Unrolled(torch.nn.Identity(), recurrent=False)
    )
    assert scores["mean"] == 0.0
    assert 50 < scores["held out"] < 60


def test_a_recurrent_network_is_scored_and_shown_on_sequences_of_photos() -> None:
    photo = (torch.rand(3, 160, 160, generator=torch.Generator().manual_seed(1)) * 255).to(torch.uint8)
    blur = BlurSettings(length=(4, 8), braced=0)
    sequences = synthetic_set(PhotoSource([photo]), blur, count=16, size=64, frames=2)
    assert len(sequences.pairs) == 8
    assert all(blurred.shape == sharp.shape == (2, 3, 64, 64) for blurred, sharp in sequences.pairs)
    validator = Validator([sequences], CPU)
    network = Unrolled(Memory(), recurrent=True)
    scores = validator.score(network)
    assert scores["synthetic"] < scores["synthetic blurred"]  # the first frame is no good for the second
    picture = validator.picture(network)
    blurred, _ = sequences.pairs[0]
    assert torch.equal(picture[:, :64, :64], blurred[1])  # the last frame …
    assert torch.equal(picture[:, :64, 256 : 256 + 64], blurred[0])  # … and what the state made of it


class Multiples(nn.Module):
    """Gives its input back where its sides are multiples of 64, as networks with levels want them."""

    def forward(self, blurred: Tensor) -> Tensor:
        assert blurred.shape[2] % 64 == 0 and blurred.shape[3] % 64 == 0
        return blurred


def test_pictures_of_any_size_are_scored_whole(tmp_path: Path) -> None:
    files = write_pairs(tmp_path, ["000001.png"]) + write_pairs(tmp_path, ["000009.png"], side=100)
    held_out = paired_set("pairs", files)
    scores = Validator([held_out], CPU, multiple_of=64).score(Unrolled(Multiples(), recurrent=False))
    each = [float(psnr(blurred.float(), sharp.float(), data_range=255)) for blurred, sharp in held_out.pairs]
    assert scores["pairs"] == scores["pairs blurred"] == pytest.approx(sum(each) / 2)
