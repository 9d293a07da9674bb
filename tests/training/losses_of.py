"""Run as a program by `test_processes`: trains by each recipe in a folder on the pairs in `data/`, prints the losses.

    python losses_of.py FOLDER ARGUMENTS

Then it does what `deblur ARGUMENTS` does, as starting a program on two processes takes longer than what it does.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from accelerate import Accelerator
from accelerate.state import AcceleratorState

from deblur_cli.__main__ import main
from deblur_cli.training.curves import Report
from deblur_cli.training.pairs import PairSource
from deblur_cli.training.recipe import load_recipe
from deblur_cli.training.trainer import train
from tests.training.runs import losses, pair_of, small_critic


def losses_of(folder: Path, accelerator: Accelerator) -> dict[str, list[float]]:
    """The losses of every step, by the name of the recipe."""
    files = sorted(folder.glob("data/*/input/*"))
    pairs = PairSource([pair_of(file, file.parents[1] / "target" / file.name) for file in files])
    told: dict[str, list[float]] = {}
    for file in sorted(folder.glob("*.toml")):
        reports: list[Report] = []
        output = folder / f"{file.stem}-{accelerator.num_processes}"
        train(load_recipe(str(file)), [pairs], output, accelerator=accelerator, tell=reports.append)
        told[file.stem] = losses(reports)
    return told


if __name__ == "__main__":
    small_critic()
    accelerator = Accelerator(cpu=True)
    told = losses_of(Path(sys.argv[1]), accelerator)
    if accelerator.is_main_process:
        print(json.dumps({"processes": accelerator.num_processes, **told}))  # noqa: T201
    AcceleratorState._reset_state()  # the command may want another precision
    sys.exit(main(sys.argv[2:]))
