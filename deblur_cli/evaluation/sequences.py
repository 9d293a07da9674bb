"""Frames of videos in an evaluation: a recurrent network's state from frame to frame, and flicker."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from deblur_cli.evaluation.datasets import Pair
from deblur_cli.restoration.scene_cuts import SceneCuts

if TYPE_CHECKING:
    from deblur_cli.restoration.restorer import Restorer
    from deblur_cli.restoration.states import FrameState


class FrameRestorer:
    """Restores the pictures of a dataset one after the other.

    A recurrent network gets the state that it left with the frame before, and starts anew where a sequence begins,
    where frames are missing and where the scene changes; or with every picture, unless `keep_state`.
    """

    timed = True
    """Whether the time that `restore` takes is the network's."""

    def __init__(self, restorer: Restorer, *, keep_state: bool) -> None:
        self.device: torch.device = restorer.device
        self._restorer = restorer
        self._keeps = keep_state and restorer.model.info.recurrent
        self._state: FrameState | None = None
        self._before: Pair | None = None
        self._cuts = SceneCuts()

    def prepare(self, pair: Pair, blurred: Tensor) -> None:
        """Look at the next picture, 1×3×H×W uint8, to see whether it goes on from the one before."""
        if not self._keeps:
            return
        cut = self._cuts.is_cut(blurred[0, 1].numpy())
        if cut or self._before is None or not pair.follows(self._before):
            self._state = None
        self._before = pair

    def restore(self, image: Tensor) -> Tensor:
        """The restored image of a blurred one, both 1×3×H×W in [0, 1]."""
        if not self._keeps:
            return self._restorer.restore_tensor(image)
        restored, self._state = self._restorer.restore_frame(image, self._state)
        return restored

    def forget(self) -> None:
        """Start anew with the next picture."""
        self._before = None


class Flicker:
    """How much a video changes from frame to frame that the sharp one does not.

    It is the mean absolute difference between (restored_t - restored_{t-1}) and (sharp_t - sharp_{t-1}) over pixels and
    channels, in grey levels of 8 bits: 0 where errors stand still, however large they are.
    """

    def __init__(self) -> None:
        self._before: tuple[Pair, Tensor] | None = None

    def of(self, pair: Pair, image: Tensor, sharp: Tensor) -> float | None:
        """That of the next frame, or None where it follows no other; both 1×3×H×W with values of 0 to 255."""
        error = image.float() - sharp.to(image.device).float()
        before, self._before = self._before, (pair, error)
        if before is None or not pair.follows(before[0]):
            return None
        return float((error - before[1]).abs_().mean())
