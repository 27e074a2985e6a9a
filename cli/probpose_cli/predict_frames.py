"""The loop of `predict`: frames in, poses out, written and drawn."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probpose_cli.console import err, out, progress_bar
from probpose_cli.predict_jobs import Job
from probpose_edge.detectors.detect import Detector, detect
from probpose_edge.draw import draw_poses
from probpose_edge.estimator import PoseEstimator
from probpose_edge.exceptions import SourceError
from probpose_edge.live import LiveStream
from probpose_edge.poses import Poses
from probpose_edge.routing.routed_estimator import RoutedEstimator
from probpose_edge.sinks.show_window import LiveWindow
from probpose_edge.sinks.write_picture import write_picture
from probpose_edge.sinks.write_results import CocoResults, Identities, JsonLines
from probpose_edge.sinks.write_video import VideoFile
from probpose_edge.sources.frames import Frame
from probpose_edge.tracking.track import PoseTracker, TrackerSettings

MAP_MARGIN = 0.25
"""How far a video with maps shows what lies beyond the border, in lengths of the longer side; alike in every frame."""
_LONGEST_STILL_S = 2.0
"""A camera that pauses for longer is shortened in the video."""


@dataclass(frozen=True, kw_only=True)
class Predictor:
    """How poses are estimated."""

    estimator: PoseEstimator | RoutedEstimator
    detector: Detector | None
    boxes: NDArray[np.float64] | None
    settings: TrackerSettings
    draw_maps: bool

    def tracker(self) -> PoseTracker:
        """A tracker for one source."""
        detector = _nobody if self.detector is None and self.boxes is not None else self.detector
        return PoseTracker(self.estimator, detector, self.settings, keep_maps=self.draw_maps)

    def once(self, image: NDArray[np.uint8], outputs: Outputs) -> Poses:
        """The poses of one picture by itself."""
        boxes = self.boxes
        if boxes is None and self.detector is not None:
            found = detect(self.detector, image, min_score=self.settings.detector_score)
            boxes = found.boxes
            outputs.unusable_boxes += found.unusable
        return self.estimator(image, boxes, return_maps=self.draw_maps)


@dataclass(kw_only=True)
class Outputs:
    """Where results go, besides the drawings."""

    coco: CocoResults
    lines: JsonLines | None
    window: LiveWindow | None
    quiet: bool
    most_frames: int | None
    closed_by_user: bool = False
    unusable_boxes: int = 0

    def write(self, frame: Frame, poses: Poses, identities: Identities) -> None:
        """Add one frame to the results."""
        self.coco.write(frame, poses, identities)
        if self.lines is not None:
            self.lines.write(frame, poses, identities)

    def ended(self, count: int) -> bool:
        """Whether enough frames were taken, or the window was closed."""
        return self.closed_by_user or (self.most_frames is not None and count >= self.most_frames)


def predict_pictures(job: Job, predictor: Predictor, outputs: Outputs, *, tracked: bool) -> None:
    """Estimate, write and draw pictures."""
    tracker = predictor.tracker() if tracked else None
    names = np.array(predictor.estimator.contract.keypoint_names)
    count = 0
    with job.open() as source, progress_bar("predicting") as update:
        for frame in source:
            poses, identities = _estimate(frame, predictor, tracker, outputs, count)
            outputs.write(frame, poses, identities)
            if job.drawn or outputs.window:
                drawn = _draw(frame, poses, identities, predictor, expand=predictor.draw_maps)
                if job.drawn:
                    write_picture(job.drawn[frame.index], drawn)
                outputs.closed_by_user = outputs.window is not None and not outputs.window.show(drawn)
            count += 1
            update(count, source.total or count)
            if not outputs.quiet:
                for person, present in enumerate(poses.present):
                    absent = ", ".join(names[~present]) or "none"
                    line = f"{frame.name}: score {poses.scores[person]:.2f}, {present.sum()} present; absent: {absent}"
                    out.print(line, markup=False)
                if len(poses) == 0:
                    out.print(f"{frame.name}: nobody", markup=False)
            if outputs.ended(count):
                break


def follow(job: Job, predictor: Predictor, outputs: Outputs, *, tracked: bool) -> None:
    """Estimate, write and draw a video, a camera or a stream."""
    tracker = predictor.tracker() if tracked else None
    seen: set[int] = set()
    count = most = 0
    with ExitStack() as stack:
        source = job.open()
        live = stack.enter_context(LiveStream(source, _process(predictor, tracker, outputs)))
        video = stack.enter_context(VideoFile(job.drawn[0], fps=source.fps)) if job.drawn else None
        update = stack.enter_context(progress_bar(f"predicting {source.name}"))
        try:
            for result in live:
                frame, (poses, identities) = result.frame, result.result
                outputs.write(frame, poses, identities)
                seen |= set() if identities is None else set(identities.tolist())
                most = max(most, len(poses))
                if video is not None or outputs.window is not None:
                    expand = MAP_MARGIN if predictor.draw_maps else False
                    drawn = _draw(frame, poses, identities, predictor, expand=expand)
                    if video is not None:
                        _append(video, drawn, frame.time_s if source.live else None)
                    outputs.closed_by_user = outputs.window is not None and not outputs.window.show(drawn)
                count += 1
                update(count, source.total or count)
                if outputs.ended(count):
                    break
        except SourceError:
            # The frames before were good, and so is the video of them.
            if video is not None:
                video.close()
            raise
        except KeyboardInterrupt:
            # The usual way to end a camera. A file that is interrupted is not done.
            if not source.live:
                raise
        finally:
            if source.live:
                err.print(f"{source.name}: {live.captured} frames captured, {live.dropped} left out", markup=False)
            if not outputs.quiet and count:
                who = f"{len(seen)} persons" if tracked else f"up to {most} persons at once"
                out.print(f"{source.name}: {count} frames, {who}", markup=False)


def _process(
    predictor: Predictor, tracker: PoseTracker | None, outputs: Outputs
) -> Callable[[Frame], tuple[Poses, Identities]]:
    """What is done with each frame of one source."""
    counter = itertools.count()
    return lambda frame: _estimate(frame, predictor, tracker, outputs, next(counter))


def _estimate(
    frame: Frame, predictor: Predictor, tracker: PoseTracker | None, outputs: Outputs, count: int
) -> tuple[Poses, Identities]:
    """The poses of one frame; boxes given by hand are those of the first, unless every frame is taken by itself."""
    if tracker is None:
        return predictor.once(frame.image, outputs), None
    boxes = predictor.boxes if count == 0 else None
    tracked = tracker(frame.image, time_s=frame.time_s if frame.time_s or count == 0 else None, boxes_xyxy=boxes)
    outputs.unusable_boxes += tracked.unusable_boxes
    return tracked.poses, tracked.identities


def _draw(
    frame: Frame, poses: Poses, identities: Identities, predictor: Predictor, *, expand: bool | float
) -> NDArray[np.uint8]:
    labels = None if identities is None else [str(identity) for identity in identities]
    contract = predictor.estimator.contract
    return draw_poses(frame.image, poses, contract, expand=expand, maps=predictor.draw_maps, labels=labels)


def _append(video: VideoFile, drawn: NDArray[np.uint8], time_s: float | None) -> None:
    """Append a frame; of a camera as often as it takes to keep the time, since frames are left out."""
    times = 1
    if time_s is not None:
        late = round(time_s * video.fps) + 1 - video.frames
        times = min(max(late, 1), round(_LONGEST_STILL_S * video.fps))
    for _ in range(times):
        video.write(drawn)


def _nobody(image_bgr: NDArray[np.uint8], /) -> tuple[list[float], list[float]]:
    """The detector of who named all persons by hand."""
    return [], []
