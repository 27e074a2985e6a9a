"""`probpose-edge`: one command per file; heavy libraries are imported inside the commands."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from typing import Any

import typer
from typer.core import TyperGroup

from probpose_cli import (
    benchmark,
    calibrate,
    convert,
    data,
    demo,
    doctor,
    evaluate,
    inspect,
    predict,
    quantize,
    report,
    router,
    train,
)
from probpose_edge.exceptions import ProbPoseError
from probpose_edge.version import __version__

FAILED = 2
"""Exit code of every failure that has a message; 1 is kept for a report whose limits are not met."""


class OneSentencePerFailure(TyperGroup):
    """Every expected failure is one sentence on stderr and exit code 2, whichever command it comes from; every warning
    is one sentence without the line of code it came from."""

    def invoke(self, ctx: Any) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = _show_warning
                return super().invoke(ctx)
        except ProbPoseError as error:
            message = str(error)
        except KeyboardInterrupt:
            message = "Interrupted. Nothing half-written was left behind; run the command again."
        except BrokenPipeError:
            # The reader of our output has gone; there is nobody to tell.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except OSError as error:
            message = _os_message(error)
        typer.echo(f"error: {message}", err=True)
        raise typer.Exit(FAILED)


app = typer.Typer(
    name="probpose-edge",
    cls=OneSentencePerFailure,
    help="ProbPose on small devices: fine-tune, convert, run, and know what the conversion cost.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("demo")(demo.command)
app.command("predict")(predict.command)
app.command("convert")(convert.command)
app.command("evaluate")(evaluate.command)
app.command("report")(report.command)
app.command("calibrate")(calibrate.command)
app.command("train")(train.command)
app.command("benchmark")(benchmark.command)
app.command("quantize")(quantize.command)
app.command("router")(router.command)
app.command("inspect")(inspect.command)
app.command("doctor")(doctor.command)
app.add_typer(data.app, name="data")


def _version(show: bool) -> None:
    if show:
        typer.echo(f"probpose-edge {__version__}")
        raise typer.Exit


@app.callback()
def main(version: bool = typer.Option(False, "--version", callback=_version, is_eager=True)) -> None:
    """ProbPose on small devices: fine-tune, convert, run, and know what the conversion cost."""


def run() -> None:
    """Entry point of the console script."""
    app()


def _show_warning(message: Warning | str, *_where: object) -> None:
    typer.echo(f"warning: {message}", err=True)


def _os_message(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"The disk is full{where}. Nothing half-written was left behind; free some space and run again."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"Not allowed to read or write there{where}: {error.strerror}. Choose another folder or fix its rights."
    return f"{error.strerror or error}{where}. Check the path and run again."
