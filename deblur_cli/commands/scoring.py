"""Networks, and pictures restored elsewhere, one after the other over a dataset, with what the user sees of it."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deblur_cli.commands.console import Progress
from deblur_cli.errors import DeblurError
from deblur_cli.evaluation.benchmark import (
    BenchmarkResult,
    Failure,
    ImageResult,
    benchmark,
    merge,
    saved_path,
    whole_groups,
)
from deblur_cli.evaluation.datasets import Dataset, Pair
from deblur_cli.evaluation.elsewhere import RestoredPictures
from deblur_cli.evaluation.gallery import Gallery, Views, with_saved
from deblur_cli.evaluation.report import ModelReport, describe, describe_pictures
from deblur_cli.restoration.restorer import Restorer

if TYPE_CHECKING:
    from deblur_cli.evaluation.journal import Journal
    from deblur_cli.evaluation.perceptual import Lpips
    from deblur_cli.restoration.processes import Processes


class Scoring:
    """Scores over one dataset, of which this process does its share.

    Args:
        dataset: what is scored.
        processes: who shares the work.
        rounding, keep_state, lpips: as for `benchmark`.
        pictures: whether small pictures of the best and worst images are kept, see `views`.
    """

    def __init__(
        self,
        dataset: Dataset,
        processes: Processes,
        *,
        rounding: bool,
        keep_state: bool,
        lpips: Lpips | None,
        pictures: bool,
    ) -> None:
        self.views: dict[str, Mapping[Pair, Views]] = {}
        """By label, pictures of the best and worst images, where they are wanted."""
        self._dataset = dataset
        self._processes = processes
        self._share = processes.share(dataset.groups())
        self._rounding = rounding
        self._keep_state = keep_state
        self._lpips = lpips
        self._pictures = pictures
        self._known: dict[Pair, ImageResult] = {}
        """Results of earlier ones, for what they say of blurred pictures, which are the same for all."""

    def network(self, engine: dict[str, Any], label: str, save: Path | None, journal: Journal | None) -> ModelReport:
        """One network, whose `Restorer` has the arguments `engine`; its pictures go to the folder `save`."""
        done = journal.results(label, self._share) if journal else {}
        if save is not None:
            done = {pair: result for pair, result in done.items() if saved_path(save, pair).is_file()}
        done = whole_groups(self._dataset, done)
        notes = journal.notes(label) if journal else []

        def notify(text: str) -> None:
            notes.append(text)
            progress.say(f"{label}: {text}")
            if journal:
                journal.note(label, text)

        with self._progress(label, len(done)) as progress:
            restorer = Restorer(**engine, notify=notify)
            if done:
                progress.say(f"{label}: {len(done)} of {len(self._share)} images are in the journal already")
            merged = self._benchmark(restorer, label, progress, done, save, journal)
        said = [note for own in self._processes.gather(notes) for note in own]
        return describe(
            restorer,
            merged,
            label=label,
            tile=engine["tile"],
            overlap=engine["overlap"],
            notes=list(dict.fromkeys(said)),
            keep_state=self._keep_state and self._dataset.video,
        )

    def pictures(self, restored: RestoredPictures, label: str) -> ModelReport:
        """What another program restored."""
        with self._progress(label) as progress:
            return describe_pictures(restored, self._benchmark(restored, label, progress), label=label)

    def _progress(self, label: str, done: int = 0) -> Progress:
        return Progress(len(self._share) - done, label, visible=self._processes.is_first)

    def _benchmark(
        self,
        restorer: Restorer | RestoredPictures,
        label: str,
        progress: Progress,
        done: Mapping[Pair, ImageResult] | None = None,
        save: Path | None = None,
        journal: Journal | None = None,
    ) -> BenchmarkResult:
        """The results of all processes; keeps the views."""
        gallery = Gallery()

        def advance(result: ImageResult | Failure) -> None:
            if isinstance(result, Failure):
                progress.say(f"{label}: {result.pair.label} failed: {result.reason}")
                progress.advance(f"{label}: {result.pair.label} failed")
                return
            if journal:
                journal.add(label, result)
            progress.advance(f"{label}: {result.pair.label} {result.gain:+.2f} dB")

        try:
            result = benchmark(
                restorer,
                self._dataset,
                rounding=self._rounding,
                keep_state=self._keep_state,
                save=save,
                share=self._share,
                done=(done or {}).values(),
                known=self._known,
                lpips=self._lpips,
                progress=advance,
                look=gallery.add if self._pictures else None,
            )
        except BrokenPipeError:  # nobody hears of the progress
            raise
        except OSError as error:
            file = error.filename or (journal.path if journal else save)
            way_on = "the same command goes on" if journal else "with --journal FILE, a run goes on where it stopped"
            raise DeblurError(f"'{file}' cannot be written: {error.strerror or error}; {way_on}") from error
        self._known |= {image.pair: image for image in result.images}
        shares = self._processes.gather((result, dict(gallery.views)))
        merged = merge(self._dataset, (share for share, _ in shares))
        if self._pictures:
            views = dict(ChainMap(*(seen for _, seen in shares)))
            self.views[label] = with_saved(views, merged.images, save) if save else views
        return merged
