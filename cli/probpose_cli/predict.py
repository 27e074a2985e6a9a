"""`probpose-edge predict`: poses on pictures, videos and cameras."""

from __future__ import annotations

import io
import os
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import typer

from probpose_cli.console import err, out
from probpose_cli.predict_frames import Outputs, Predictor, follow, predict_pictures
from probpose_cli.predict_jobs import list_jobs
from probpose_cli.routed import ROUTED_HELP, open_routed, parse_routed
from probpose_edge.detectors.detect_onnx import OnnxDetector
from probpose_edge.estimator import PoseEstimator
from probpose_edge.exceptions import InputError, SourceError
from probpose_edge.routing.routed_estimator import RoutedEstimator
from probpose_edge.sinks.show_window import LiveWindow
from probpose_edge.sinks.write_results import CocoResults, JsonLines
from probpose_edge.tracking.track import TrackerSettings

MODEL_SUFFIXES = (".onnx", ".tflite", ".mlpackage")


def command(
    arguments: list[str] = typer.Argument(
        ...,
        metavar="[MODEL] SOURCE...",
        help="A model file first, if not the shipped one; then pictures, videos, folders, patterns, camera numbers (0) "
        "or addresses (rtsp://...).",
    ),
    box: list[str] = typer.Option(
        [], "--box", help="Person box x1,y1,x2,y2 in pixels, of the first frame in a video; repeat for several persons."
    ),
    detector: Path | None = typer.Option(
        None, "--detector", help="A person detector of yours, .onnx of YOLOX or YOLOv8 kind, to find several persons."
    ),
    detector_score: float = typer.Option(0.3, min=0, max=1, help="Detections with a lower score are left out."),
    track: bool | None = typer.Option(
        None, "--track/--no-track", help="Follow persons from frame to frame; videos and cameras are, pictures are not."
    ),
    redetect_every: int = typer.Option(30, min=1, help="Frames after which the detector looks again when tracking."),
    smoothing: float = typer.Option(TrackerSettings().smoothing, min=0, help="Of tracked keypoints; 0 is none."),
    out_dir: Path = typer.Option(Path("poses"), "--out", help="Folder for pictures, videos and results.json."),
    draw: bool = typer.Option(True, help="Write a picture or video with the poses for every source."),
    draw_maps: bool = typer.Option(False, "--draw-maps", help="Show the probability maps, beyond the border too."),
    jsonl: str | None = typer.Option(
        None, "--jsonl", help="Write a line of JSON per frame to this file, - for stdout."
    ),
    show: bool = typer.Option(False, "--show", help="Show the poses in a window; Esc or q ends."),
    frames: int | None = typer.Option(None, min=1, help="Stop after this many frames of every source."),
    threshold: float | None = typer.Option(None, help="Presence threshold; the model's own without."),
    threads: int | None = typer.Option(None, min=1, help="Threads of one inference."),
    routed: str | None = typer.Option(
        None, "--routed", metavar="ROUTER:SMALL:LARGE", help=f"In place of MODEL, {ROUTED_HELP}."
    ),
    share: float = typer.Option(0.5, help="Of the persons who go to the large model of --routed."),
    as_json: bool = typer.Option(False, "--json", help="Print the COCO results instead of a summary."),
) -> None:
    """Estimate poses; without --box and --detector the one main person is found in two passes."""
    # FFmpeg inside OpenCV writes remarks about every damaged frame to the error stream.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    model = Path(arguments[0]) if Path(arguments[0]).suffix in MODEL_SUFFIXES else None
    jobs = list_jobs(arguments[1:] if model else arguments, out_dir if draw else None)
    boxes = np.array([parse_box(text) for text in box]) if box else None
    if model and routed:
        raise InputError(f"--routed names its models itself, but {model} came, too. Leave one of them out.")
    if as_json and frames is None and any(job.live for job in jobs):
        raise InputError("--json prints when the sources end, and a camera does not. Use --jsonl -, or --frames 100.")
    if jsonl == "-" and as_json:
        raise InputError("--json and --jsonl - both print. Give --jsonl a file, or leave one out.")
    with ExitStack() as stack:
        window = stack.enter_context(LiveWindow()) if show else None
        estimator: PoseEstimator | RoutedEstimator = stack.enter_context(
            open_routed(parse_routed(routed), share=share, threads=threads, presence_threshold=threshold)
            if routed
            else PoseEstimator.open(model, threads=threads, presence_threshold=threshold)
        )
        found = detector and stack.enter_context(OnnxDetector(detector, min_score=detector_score, threads=threads))
        out_dir.mkdir(parents=True, exist_ok=True)
        printed = io.StringIO()
        coco = stack.enter_context(CocoResults(printed if as_json else out_dir / "results.json"))
        stdout = typer.get_text_stream("stdout")
        lines = stack.enter_context(JsonLines(stdout if jsonl == "-" else jsonl)) if jsonl else None
        predictor = Predictor(
            estimator=estimator,
            detector=found or None,
            boxes=boxes,
            settings=TrackerSettings(redetect_every=redetect_every, detector_score=detector_score, smoothing=smoothing),
            draw_maps=draw_maps,
        )
        outputs = Outputs(coco=coco, lines=lines, window=window, quiet=as_json or jsonl == "-", most_frames=frames)
        problems: list[str] = []
        for job in jobs:
            tracked = job.moving if track is None else track
            try:
                (follow if job.moving else predict_pictures)(job, predictor, outputs, tracked=tracked)
            except SourceError as error:
                # What was read before is good and is kept; the other sources may be good as well.
                problems.append(str(error))
            if outputs.closed_by_user:
                break
        if problems and not coco.frames:
            raise SourceError(problems[0])
    if as_json:
        typer.echo(printed.getvalue())
    elif jsonl != "-":
        out.print(f"{coco.count} poses of {coco.frames} frames in {out_dir}", markup=False)
    if outputs.unusable_boxes:
        what = "not finite, without area or off the picture"
        err.print(f"{outputs.unusable_boxes} boxes of the detector were left out: {what}.", markup=False)
    for problem in problems[1:]:
        err.print(f"error: {problem}", markup=False)
    if problems:
        raise SourceError(problems[0])


def parse_box(text: str) -> list[float]:
    """``x1,y1,x2,y2`` to four numbers; raises `InputError`."""
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 4:
        raise InputError(f"A box is four numbers x1,y1,x2,y2 in pixels, got {text!r}. Write for example 10,20,110,320.")
    return values
