"""Means of scores, over images and over sequences."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from deblur_cli.evaluation.datasets import Pair
from deblur_cli.evaluation.metrics import Scores


@dataclass(frozen=True)
class Summary:
    """Means over images. A PSNR that is infinite is kept out of its mean and counted."""

    psnr: float
    """dB; infinite where all are, NaN where there are no images."""
    ssim: float
    ssim_matlab: float
    ms_ssim: float | None
    """None where no image has one."""
    identical: int
    """Images of infinite PSNR."""


def summarise(scores: Iterable[Scores]) -> Summary:
    """The means of many scores, which do not depend on their order."""
    listed = list(scores)
    finite = [one.psnr for one in listed if math.isfinite(one.psnr)]
    identical = sum(one.psnr == math.inf for one in listed)
    return Summary(
        psnr=math.inf if identical and not finite else mean_of(finite),
        ssim=mean_of(one.ssim for one in listed),
        ssim_matlab=mean_of(one.ssim_matlab for one in listed),
        ms_ssim=mean_of_known(one.ms_ssim for one in listed),
        identical=identical,
    )


def summarise_pairs(scores: Mapping[Pair, Scores], apart: Collection[Pair]) -> Summary:
    """`summarise` with the PSNR of the pairs `apart` in no mean, so that means that are compared cover the same; where
    all pairs are `apart`, and there is nothing to compare, with those that are finite."""
    whole = summarise(scores.values())
    kept = [one for pair, one in scores.items() if pair not in apart]
    return replace(whole, psnr=summarise(kept).psnr) if kept else whole


def means_of_sequences(scores: Mapping[Pair, Scores], apart: Collection[Pair] = ()) -> Summary:
    """The mean of the means of the sequences, which count the same however long they are; `apart` as above."""
    sequences: dict[str, dict[Pair, Scores]] = {}
    for pair, one in scores.items():
        sequences.setdefault(pair.sequence, {})[pair] = one
    means = {name: summarise_pairs(own, apart) for name, own in sequences.items()}
    over = summarise(Scores(mean.psnr, mean.ssim, mean.ssim_matlab, mean.ms_ssim) for mean in means.values())
    # A sequence that is `apart` as a whole is in no mean either, where others are left.
    kept = [means[name].psnr for name, own in sequences.items() if not own.keys() <= set(apart)]
    psnr = mean_of(kept) if kept else over.psnr
    return replace(over, psnr=psnr, identical=sum(mean.identical for mean in means.values()))


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """The mean of those that are known; None where none is."""
    known = [value for value in values if value is not None]
    return mean_of(known) if known else None


def mean_of(values: Iterable[float]) -> float:
    """Their mean, which does not depend on their order; NaN where there are none."""
    listed = list(values)
    return math.fsum(listed) / len(listed) if listed else math.nan
