"""What a benchmark found, as tables to read and the notes that go with them; files of it: `report_files`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from deblur_cli.evaluation import perceptual
from deblur_cli.evaluation.benchmark import BenchmarkResult
from deblur_cli.evaluation.datasets import Dataset, Pair
from deblur_cli.evaluation.elsewhere import RestoredPictures
from deblur_cli.evaluation.metrics import Scores
from deblur_cli.evaluation.summaries import Summary, mean_of_known, means_of_sequences, summarise_pairs
from deblur_cli.restoration.device import hardware_name
from deblur_cli.words import counted

if TYPE_CHECKING:
    from rich.table import Table

    from deblur_cli.restoration.restorer import Restorer
    from models.registry import Score

_MOST_SEQUENCES = 30
"""So many are shown in a table; JSON has them all."""
_MOST_NAMES = 10
"""So many failed images are named; JSON and CSV have them all."""
_REGISTERED = "(scaled in intensity, laid on by an ECC homography, scored where it covers)"
PROTOCOLS = {
    "pixelwise": "compared pixel by pixel",
    "Köhler": "Köhler's protocol (scaled in intensity, moved by whole pixels, luminance, best of the frames)",
    "RealBlur": f"RealBlur's protocol {_REGISTERED}",
    "aligned": f"aligned as RealBlur is {_REGISTERED}",
}
"""How pictures were compared, in words; see `deblur_cli.evaluation.alignment`."""


@dataclass(frozen=True)
class ModelReport:
    """The benchmark of one network and what it ran as, or of `pictures` that were restored elsewhere.

    Of pictures nothing but the label and the result is known: their other fields have the defaults.
    """

    label: str
    """Tells this network from the others of the report."""
    result: BenchmarkResult
    network: str | None = None
    """Its name in the registry."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """All options it was built with."""
    weights: str | None = None
    """Name of the file of weights; None for an untrained network."""
    sha256: str | None = None
    """Of the file of weights, hexadecimal; None for an untrained network."""
    published: tuple[Score, ...] = ()
    """Figures that were published for it, on whatever dataset."""
    device: str | None = None
    hardware: str | None = None
    """Model of the GPU, or architecture of the processor."""
    threads: int | None = None
    precision: str | None = None
    """The one that it ended with."""
    tile: str | None = None
    """As asked for: `auto`, 0 for whole images, or the side in pixels."""
    overlap: int | None = None
    """As asked for, in pixels; None for the network's own."""
    notes: tuple[str, ...] = ()
    """What the restorer had to say."""
    state: str = "none"
    """What becomes of a recurrent network's state: `kept` from frame to frame, `reset` with each image; else `none`."""
    pictures: Path | None = None
    """The folder of pictures that were restored elsewhere."""


@dataclass(frozen=True)
class Report:
    """Networks side by side over one dataset."""

    dataset: Dataset
    rounding: bool
    """Whether restored values were rounded to 8 bits before scoring."""
    models: tuple[ModelReport, ...]
    lpips: str | None = None
    """What was taken as LPIPS, in words; None where it was not asked for."""

    @property
    def blurred_scores(self) -> dict[Pair, Scores]:
        """Scores of the blurred pictures that at least one network was scored on."""
        return {image.pair: image.blurred for model in self.models for image in model.result.images}

    @property
    def infinite(self) -> frozenset[Pair]:
        """Pairs of infinite PSNR, blurred or restored by any network: in no mean of PSNR, for all to cover the same."""
        return frozenset(pair for model in self.models for pair in model.result.infinite)

    @property
    def blurred(self) -> Summary:
        """Of the blurred pictures that at least one network was scored on."""
        return summarise_pairs(self.blurred_scores, self.infinite)

    def restored(self, model: ModelReport) -> Summary:
        """Of what a network restored."""
        return summarise_pairs(model.result.restored_scores, self.infinite)

    @property
    def blurred_flicker(self) -> float | None:
        """Of the blurred frames that at least one network was scored on; None where they are no video."""
        flickers = {image.pair: image.blurred_flicker for model in self.models for image in model.result.images}
        return mean_of_known(flickers.values())

    @property
    def blurred_lpips(self) -> float | None:
        """Of the blurred pictures that at least one network was scored on; None where it was not asked for."""
        distances = {image.pair: image.blurred_lpips for model in self.models for image in model.result.images}
        return mean_of_known(distances.values())

    @property
    def multiscale(self) -> bool:
        """Whether multi-scale SSIM is reported: it is what papers print for Köhler's set."""
        return self.dataset.protocol == "Köhler"

    @property
    def published_known(self) -> bool:
        """Whether published figures belong beside ours: there are some for this dataset's test split."""
        return any(self.published(model) for model in self.models)

    def published(self, model: ModelReport) -> list[Score]:
        """Those of a network's published figures that were taken on this dataset."""
        # A folder that is merely called like a published set is not that set.
        if self.dataset.split not in ("test", "val", "") or self.dataset.expected is None:
            return []
        if self.dataset.protocol == "aligned":  # which theirs were not
            return []
        name = self.dataset.name.casefold()
        return [score for score in model.published if score.dataset.casefold().startswith(name)]


def describe(
    restorer: Restorer,
    result: BenchmarkResult,
    *,
    label: str,
    tile: str | int,
    overlap: int | None,
    notes: Sequence[str] = (),
    keep_state: bool = False,
) -> ModelReport:
    """`result` with what `restorer` is and ran as; the precision is the one that it ended with."""
    model = restorer.model
    return ModelReport(
        label=label,
        result=result,
        network=model.info.name,
        options=model.options,
        weights=model.path.name if model.path else None,
        sha256=model.sha256,
        published=model.info.published,
        device=str(restorer.device),
        hardware=hardware_name(restorer.device),
        threads=torch.get_num_threads(),
        precision=restorer.precision,
        tile=str(tile),
        overlap=overlap,
        notes=tuple(notes),
        state=("kept" if keep_state else "reset") if model.info.recurrent else "none",
    )


def describe_pictures(pictures: RestoredPictures, result: BenchmarkResult, *, label: str) -> ModelReport:
    """`result` of pictures that were restored elsewhere."""
    return ModelReport(label=label, result=result, pictures=pictures.folder)


def build_table(report: Report) -> Table:
    """A row for the blurred input, then one for each network; published figures in a column of their own.

    Means are over images; where there are several sequences, the mean of their means stands beside. Flicker is shown
    for videos.
    """
    from rich.table import Table

    sequences = len({pair.sequence for pair in report.dataset.pairs}) > 1
    table = Table()
    table.add_column("", no_wrap=True)
    headings = ["PSNR dB", "ssim", "ssim_matlab", *(["ms_ssim"] if report.multiscale else [])]
    headings += ["PSNR over sequences"] if sequences else []
    headings += [perceptual.NAME] if report.lpips else []
    headings += ["flicker"] if report.dataset.video else []
    for heading in (*headings, "gain dB", "ms/image", "worst gain dB"):
        table.add_column(heading, justify="right", no_wrap=True)
    if report.published_known:
        table.add_column("published, not measured here", no_wrap=True)

    def cells(summary: Summary, over_sequences: float, lpips: float | None, flicker: float | None) -> list[str]:
        found = [_number(summary.psnr, ".2f"), _number(summary.ssim, ".4f"), _number(summary.ssim_matlab, ".4f")]
        found += [_number(summary.ms_ssim, ".4f")] if report.multiscale else []
        found += [_number(over_sequences, ".2f")] if sequences else []
        found += [_number(lpips, ".4f")] if report.lpips else []
        return found + ([_number(flicker, ".3f")] if report.dataset.video else [])

    apart = report.infinite
    over_sequences = means_of_sequences(report.blurred_scores, apart).psnr
    table.add_row("blurred input", *cells(report.blurred, over_sequences, report.blurred_lpips, report.blurred_flicker))
    for model in report.models:
        result = model.result
        over_sequences = means_of_sequences(result.restored_scores, apart).psnr
        row = cells(report.restored(model), over_sequences, result.lpips, result.flicker)
        row += [_number(result.gain_without(apart), "+.2f"), _number(result.milliseconds, ".1f")]
        row.append(_number(result.worst.gain if result.worst else None, "+.2f"))
        if report.published_known:
            row.append("\n".join(map(_published, report.published(model))))
        table.add_row(model.label, *row)
    return table


def build_sequence_table(report: Report) -> Table | None:
    """The PSNR of each sequence, the blurred input's beside the networks'; None where there is one, or very many."""
    from rich.table import Table

    names = dict.fromkeys(pair.sequence for pair in report.dataset.pairs)
    if not 1 < len(names) <= _MOST_SEQUENCES:
        return None
    table = Table()
    table.add_column("PSNR dB", no_wrap=True)
    for heading in ("images", "blurred input", *(model.label for model in report.models)):
        table.add_column(heading, justify="right", no_wrap=True)
    apart = report.infinite
    by_sequence = [model.result.sequences for model in report.models]
    for name in names:
        images = [one.get(name, ()) for one in by_sequence]
        longest = max(images, key=len, default=())
        summaries = [summarise_pairs({image.pair: image.blurred for image in longest}, apart)]
        summaries += [summarise_pairs({image.pair: image.restored for image in own}, apart) for own in images]
        table.add_row(name, str(len(longest)), *(_number(summary.psnr, ".2f") for summary in summaries))
    return table


def build_notes(report: Report) -> list[str]:
    """The protocol in a line, what each network ran as, and all that a reader of the table has to know; a line each."""
    return [_protocol(report), *map(_conditions, report.models), *_remarks(report)]


def _number(value: float | None, form: str) -> str:
    return "-" if value is None or math.isnan(value) else format(value, form)


def _published(score: Score) -> str:
    """The figure, and which of the network's configurations it is of."""
    from models.catalogue import published_score

    return ", ".join(filter(None, (published_score(score), score.source)))


def _protocol(report: Report) -> str:
    dataset = report.dataset
    sizes = {pair.size for pair in dataset.pairs}
    failed = {failure.pair for model in report.models for failure in model.result.failures}
    scored = len(dataset.pairs) - len(failed)  # by every network: the pairs that all of the means have in common
    parts = [
        " ".join(filter(None, (dataset.name, dataset.split))),
        f"variant {dataset.variant}" if dataset.variant else "",
        counted(dataset.coverage, "pair") + (f" ({scored} scored)" if scored < len(dataset.pairs) else ""),
        "×".join(map(str, sizes.pop())) if len(sizes) == 1 else "various sizes",
        "rounded to 8 bits before scoring" if report.rounding else "not rounded (--float)",
        PROTOCOLS[dataset.protocol],
        "means over images",
        f"torch {torch.__version__}",
    ]
    return "protocol: " + ", ".join(filter(None, parts))


def _conditions(model: ModelReport) -> str:
    if model.pictures is not None:
        return f"{model.label}: pictures of '{model.pictures}', restored elsewhere"
    weights = f"weights {model.weights} sha256 {model.sha256[:12]}" if model.sha256 else "untrained"
    overlap = "" if model.overlap is None else f", overlap {model.overlap}"
    state = {"kept": "state kept from frame to frame, ", "reset": "state reset with each image, ", "none": ""}
    threads = counted(model.threads or 0, "thread")
    timed = len(model.result.images) - model.result.warm_up
    return (
        f"{model.label}: network {model.network}, {weights}, device {model.device} ({model.hardware}), "
        f"{threads}, precision {model.precision}, tile {model.tile}{overlap}, {state[model.state]}"
        f"median time of {counted(timed, 'image')} after {model.result.warm_up} to warm up"
    )


def _remarks(report: Report) -> Iterator[str]:
    dataset = report.dataset
    for note in dataset.notes:
        yield f"note: {note}"
    if dataset.protocol == "aligned" and dataset.expected:
        yield f"note: aligned (--align), so not comparable with figures published for {dataset.name}"
    elif not dataset.whole and dataset.expected:
        yield f"note: not the whole of {dataset.name}, so not comparable with figures published for it"
    if dataset.video:
        yield "note: flicker is the mean change from frame to frame that the sharp video does not have, in grey levels"
    if report.lpips:
        yield f"note: {perceptual.NAME} is {report.lpips}"
    if dataset.left_out:
        yield f"note: left out, as they do not pair: {len(dataset.left_out)}, such as: {dataset.left_out[0]}"
    if identical := report.blurred.identical:
        yield f"note: blurred input identical to the sharp image: {identical}, PSNR inf"
    if infinite := report.infinite:
        if infinite >= report.blurred_scores.keys():
            yield "note: every pair has an infinite PSNR, so there is no gain; means of PSNR are of the finite ones"
        else:  # All means of PSNR are compared with each other, so a pair that one cannot hold is in none.
            yield f"note: pairs of infinite PSNR, left out of every mean of PSNR and gain: {len(infinite)}"
    for model in report.models:
        yield from _remarks_on(model, dataset)
    if report.published_known:
        yield f"note: published figures are their authors', for all {dataset.expected:,} test pairs of {dataset.name}"
        if dataset.variant == "blur_gamma":
            yield "note: scored on the variant blur_gamma; published figures may be for the other one, blur"
        if dataset.protocol == "Köhler":
            yield "note: an SSIM published for Köhler is most often multi-scale: compare it with ms_ssim"
        if any(score.ssim_kind == "cw" for model in report.models for score in report.published(model)):
            yield "note: an SSIM of the complex wavelet kind compares with no column here"


def _remarks_on(model: ModelReport, dataset: Dataset) -> Iterator[str]:
    result = model.result
    if result.restored.identical:
        yield f"note: {model.label}: restored identical to the sharp image: {result.restored.identical}, PSNR inf"
    if result.worst is not None:
        yield f"{model.label}: worst is {result.worst.pair.label} with {result.worst.gain:+.2f} dB"
    if model.state == "reset" and not dataset.video and len(dataset.pairs) > 1:
        frames = " (a video's frames have their own folder and numbers in a row)"
        how = frames if dataset.protocol == "pixelwise" else ""
        yield f"note: {model.label}: recurrent, but begins anew with each picture, as these are no sequences{how}"
    for note in model.notes:
        yield f"note: {model.label}: {note}"
    if result.failures:
        names = [failure.pair.label for failure in result.failures]
        more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
        told = ", ".join(names[:_MOST_NAMES]) + more
        yield f"note: {model.label}: failed and in no mean: {len(names)}: {told}"
