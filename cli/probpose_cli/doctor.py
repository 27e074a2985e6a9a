"""`probpose-edge doctor`: what is installed here, what works, and what to do about the rest."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from probpose_cli.console import err, out
from probpose_cli.doctor_checks import Check, camera_checks, display_check, file_check, installed, runtime_checks
from probpose_cli.models import open_for_evaluation
from probpose_edge.exceptions import InputError


def command(
    models: list[Path] | None = typer.Argument(None, help="Model files to test; the shipped ones always are."),
    camera: str | None = typer.Option(None, help="Number or address of a camera to open for one frame."),
    record: bool = typer.Option(
        False, "--record", help="Record the answers of the files given in their metadata, to compare with elsewhere."
    ),
    as_json: bool = typer.Option(False, "--json", help="Print everything as JSON."),
) -> None:
    """Say what is installed and what works; exit code 1 if something does not."""
    # Runtimes first: LiteRT names its delegate only when it opens the first file.
    here, runtimes = installed(), list(runtime_checks())
    if record:
        _record(models or [])
    checks = [*runtimes, *(file_check(path) for path in models or []), *camera_checks(camera), display_check()]
    problems = sum(check.state == "problem" for check in checks)
    if as_json:
        typer.echo(json.dumps({"ok": not problems, "installed": here, "checks": [asdict(c) for c in checks]}, indent=2))
    else:
        _print(here, checks, problems)
    raise typer.Exit(1 if problems else 0)


def _record(models: list[Path]) -> None:
    from probpose_convert.record_self_test import check_recordable, record_self_test

    if not models:
        raise InputError("doctor --record needs the model files to record, got none. Name them.")
    for path in models:
        check_recordable(path)
    for path in models:
        with open_for_evaluation(path) as estimator:
            record_self_test(path, estimator)
        err.print(f"recorded in {path}")


def _print(here: dict[str, Any], checks: list[Check], problems: int) -> None:
    out.print(f"probpose-edge {here['probpose-edge']}, Python {here['python']}, {here['system']}")
    for module, packages in here["packages"].items():
        out.print(f"  {module}: {', '.join(packages) or 'installed'}", markup=False)
    for label in (
        "onnxruntime providers",
        "delegate libraries",
        "opencv cameras and streams",
        "opencv files",
        "cameras",
    ):
        out.print(f"  {label}: {', '.join(here[label]) or 'none'}", markup=False)
    extras = sorted(set(here["missing"].values()))
    if extras:
        lines = ", ".join(f"{module} [{extra}]" for module, extra in here["missing"].items())
        out.print(f'  not installed: {lines}; pip install "probpose-edge[EXTRA]" where one is needed', markup=False)
    marks = {"ok": "ok     ", "remark": "remark ", "problem": "PROBLEM"}
    for check in checks:
        out.print(f"{marks[check.state]} {check.what}: {check.said}", markup=False)
        if check.remedy:
            out.print(f"        → {check.remedy}", markup=False)
    out.print("Everything that is here works." if not problems else f"{problems} problem{'s' * (problems > 1)}.")
