"""`probpose-edge report`: what every file costs against full precision."""

from __future__ import annotations

import dataclasses
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from probpose_cli.console import out, progress_bar
from probpose_cli.models import open_for_evaluation
from probpose_cli.routed import ROUTED_HELP, RoutedFiles, multiply_adds, open_pair, parse_routed
from probpose_edge.exceptions import InputError

if TYPE_CHECKING:
    from probpose_eval import EvaluationSet, Report, ReportConfig, ReportEntry
    from probpose_eval.routing.routed_report import RoutedReport

SHOWN_PICTURES = 8


def command(
    models: list[Path] = typer.Argument(..., help=".onnx, .tflite, .mlpackage or .safetensors files."),
    reference: Path = typer.Option(
        ..., "--reference", help="The full-precision file; a .safetensors checkpoint will do."
    ),
    annotations: Path = typer.Option(..., "--annotations", help="COCO keypoint annotations."),
    images: Path = typer.Option(..., "--images", help="Folder of its pictures."),
    out_dir: Path = typer.Option(Path("report"), "--out", help="Folder for report.html, report.json and report.md."),
    crop_seed: int = typer.Option(0, help="Seed of the cropped version of the set, which is made on the way."),
    max_drop: list[str] = typer.Option(
        [],
        help="How much worse than the reference a file may be: Ex-AP=0.5,presence-ece=0.01 (AP and AR in points, the "
        "others as they are; cropped:Ex-AP=1 for one set; 0.5 alone is of Ex-AP). A file that is worse gives exit "
        "code 1. Without any limit, files are judged by 1 point of Ex-AP, and the exit code is 0.",
    ),
    fail_under: list[str] = typer.Option(
        [], help="What every file must reach: Ex-AP=60, or plain:Ex-AP=60 for one set. Else exit code 1."
    ),
    pictures: bool = typer.Option(
        True, "--pictures/--no-pictures", help="Put the pictures on which files differ most into report.html."
    ),
    definition: str = typer.Option("paper", help="Ex-OKS definition: paper or exococotools."),
    threads: int = typer.Option(1, min=1, help="Threads of one inference, in the latency too."),
    latency_rounds: int = typer.Option(30, min=0, help="Timed rounds; 0 leaves latency out."),
    allow_calibration_pictures: bool = typer.Option(
        False, "--allow-calibration-pictures", help="Judge files on pictures they were calibrated on too; marks them."
    ),
    mac_kit: Path | None = typer.Option(
        None, "--mac-kit", help="Also write a zip that measures the .mlpackage files on a Mac, where CoreML runs them."
    ),
    measured: list[Path] = typer.Option(
        [], "--measured", help="measured.json of such a kit: its rows replace what would be simulated here."
    ),
    routed: list[str] = typer.Option(
        [], "--routed", metavar="ROUTER:SMALL:LARGE", help=f"Also {ROUTED_HELP}, at shares from 0 to 100 %; repeatable."
    ),
) -> None:
    """Measure files on a set and on its cropped version, each against the reference, through the SDK."""
    from probpose_eval.report.build_report import DEFAULT_LIMITS, ReportConfig
    from probpose_eval.report.limits import FAIL_UNDER, MAX_DROP, parse_limits
    from probpose_eval.report.report_text import headline

    limits = (
        *parse_limits(MAX_DROP, max_drop, plain_number="Ex-AP"),
        *parse_limits(FAIL_UNDER, fail_under),
    )
    report = make_report(
        [reference, *(path for path in models if path != reference)],
        annotations,
        images,
        out_dir,
        config=ReportConfig(
            definition=definition,
            limits=limits or DEFAULT_LIMITS,
            enforced=bool(limits),
            latency_rounds=latency_rounds,
            command=shlex.join(["probpose-edge", *(relative(text) for text in sys.argv[1:])]),
        ),
        crop_seed=crop_seed,
        threads=threads,
        pictures=pictures,
        allow_calibration_pictures=allow_calibration_pictures,
        mac_kit=mac_kit,
        measured=measured,
        routed=[parse_routed(text) for text in routed],
    )
    for file in report.files:
        out.print(f"{file.label}: {file.verdict}")
    out.print(headline(report)[1])
    out.print(f"report in {out_dir}{'' if mac_kit is None else f', kit for a Mac in {mac_kit}'}")
    if limits and not report.kept:
        raise typer.Exit(1)


def make_report(
    paths: list[Path],
    annotations: Path,
    images: Path,
    out_dir: Path,
    *,
    config: ReportConfig,
    crop_seed: int = 0,
    threads: int = 1,
    pictures: bool = True,
    allow_calibration_pictures: bool = False,
    mac_kit: Path | None = None,
    measured: Sequence[Path] = (),
    routed: Sequence[RoutedFiles] = (),
) -> Report:
    """Measure files, the first of which is the reference, on a set and its cropped version; write the report."""
    from probpose_eval import (
        CropRecipe,
        ReportEntry,
        build_report_and_pictures,
        load_evaluation_set,
        write_crop_set,
        write_report,
    )
    from probpose_eval.calibration.shared_pictures import count_shared_pictures
    from probpose_eval.mac.mac_kit import write_mac_kit
    from probpose_eval.model_file import sha256_of
    from probpose_eval.report.report_figures import require_figures

    if len({path.name for path in paths}) < len(paths):
        raise InputError("A report needs files of different names, because its rows are named after them. Rename one.")
    require_figures()
    with ExitStack() as stack:
        temporary = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        entries = []
        for path in paths:
            estimator = stack.enter_context(open_for_evaluation(path, threads=threads))
            entries.append(ReportEntry(label=path.name, estimator=estimator, path=path, threads=threads))
        plain = load_evaluation_set(annotations, images, name=annotations.name)
        shared = count_shared_pictures(
            {entry.label: entry.estimator.contract for entry in entries},
            plain.annotations,
            images,
            allow=allow_calibration_pictures,
        )
        entries = [dataclasses.replace(e, shared_calibration_pictures=shared[e.label]) for e in entries]
        recipe = CropRecipe(padding=max(entry.estimator.contract.activation_padding for entry in entries))
        with progress_bar("cropping") as update:
            write_crop_set(annotations, images, temporary / "set", seed=crop_seed, recipe=recipe, progress=update)
        cropped = load_evaluation_set(
            temporary / "set" / "annotations.json",
            temporary / "set" / "images",
            name=f"{annotations.name}, cropped with seed {crop_seed}",
        )
        reference_sha256 = sha256_of(paths[0])
        if mac_kit is not None:
            with progress_bar("packing") as update:
                write_mac_kit(
                    mac_kit,
                    [path for path in paths if path.suffix == ".mlpackage"],
                    reference=entries[0].estimator,
                    reference_sha256=reference_sha256,
                    sets={
                        "plain": (annotations, images),
                        "cropped": (temporary / "set" / "annotations.json", temporary / "set" / "images"),
                    },
                    latency_rounds=config.latency_rounds,
                    progress=update,
                )
        for path in measured:
            entries = with_measured(entries, path, {"plain": plain, "cropped": cropped}, reference_sha256)
        update_stage = stack.enter_context(progress_bar("measuring"))
        report, drawn = build_report_and_pictures(
            entries,
            reference=paths[0].name,
            plain=plain,
            cropped=cropped,
            config=config,
            pictures=SHOWN_PICTURES if pictures else 0,
            progress=lambda stage, done, total: update_stage(done, total),
        )
        report = dataclasses.replace(
            report,
            routing=tuple(
                routed_report(files, {"plain": plain, "cropped": cropped}, config, threads, update_stage)
                for files in routed
            ),
        )
        write_report(out_dir, report, drawn)
    return report


def routed_report(
    files: RoutedFiles,
    sets: dict[str, EvaluationSet],
    config: ReportConfig,
    threads: int,
    update: Callable[[int, int], None],
) -> RoutedReport:
    """What a report says of one router and pair."""
    from probpose_edge.skeletons.skeleton import Skeleton
    from probpose_eval.routing.routed_report import build_routed_report

    with open_pair(files, threads=threads) as pair:
        skeleton = Skeleton.of(pair.large.contract)
        return build_routed_report(
            pair.router,
            pair.small,
            pair.large,
            {name: data.with_skeleton(skeleton) for name, data in sets.items()},
            labels=files.labels,
            definition=config.definition,
            macs=multiply_adds(files, pair),
            rounds=min(config.latency_rounds, 2),
            progress=lambda what, done, total: update(done, total),
        )


def with_measured(
    entries: Sequence[ReportEntry], path: Path, sets: dict[str, EvaluationSet], reference_sha256: str
) -> list[ReportEntry]:
    """The entries, those that `path` has measurements of with these, so that they are not run here."""
    from probpose_edge.estimator import PoseEstimator
    from probpose_eval.mac.measured_files import RuntimeElsewhere, read_measured
    from probpose_eval.model_file import sha256_of

    hashes = {entry.label: sha256_of(entry.path) for entry in entries if entry.path is not None}
    found = read_measured(path, files=hashes, sets=sets, reference_sha256=reference_sha256)
    return [
        dataclasses.replace(
            entry,
            estimator=PoseEstimator(RuntimeElsewhere(found[entry.label]), entry.estimator.contract),
            measured=found[entry.label],
            threads=None,
        )
        if entry.label in found
        else entry
        for entry in entries
    ]


def relative(text: str) -> str:
    """Paths below the working folder as relative ones: a report tells no more of a machine than it must."""
    path = Path(text)
    return str(path.relative_to(Path.cwd())) if path.is_absolute() and path.is_relative_to(Path.cwd()) else text
