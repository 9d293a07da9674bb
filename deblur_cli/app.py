"""The command `deblur`: global options, and a line for each verb. What a verb does stands in `commands/`."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from deblur_cli.commands import bench, image, models, synth, train, video
from deblur_cli.commands import eval as eval_command
from deblur_cli.errors import EXIT_USAGE

LOGGED = ("deblur_cli", "models")
"""The packages whose log --verbose shows."""

app = typer.Typer(
    name="deblur",
    help="Make blurred photos and videos sharp.",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # help laid out by rich takes three times as long to appear
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from deblur_cli import __version__

        typer.echo(f"deblur {__version__}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log what is done, and show tracebacks of errors.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    if verbose:
        for package in LOGGED:
            logging.getLogger(package).setLevel(logging.INFO)
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit(EXIT_USAGE)


app.command("image")(image.image)
app.command("video")(video.video)
app.command("eval")(eval_command.evaluate)
app.command("bench")(bench.bench)
app.command("train")(train.train)
app.command("synth")(synth.synth)
app.command("models")(models.models)
