"""Follow persons from frame to frame."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probpose_edge.boxes import check_boxes
from probpose_edge.contract.metadata import ModelContract
from probpose_edge.detectors.detect import Detections, Detector, detect
from probpose_edge.detectors.whole_image import FEWEST_PRESENT, person_box
from probpose_edge.estimator import MapChoice
from probpose_edge.exceptions import InputError
from probpose_edge.images import to_bgr
from probpose_edge.poses import Poses
from probpose_edge.probabilities.calibrated_maps import LOST_SHARE_KEY, TEMPERATURE_KEY
from probpose_edge.probabilities.map_covariance import map_covariances
from probpose_edge.tracking.associate import box_areas, box_iou, box_nearness, match_greedily, pose_oks
from probpose_edge.tracking.track_person import TrackedPerson

_SAME_BOX_IOU = 0.6
"""A detection that overlaps the box a person was carried to by this much stands in its place."""
_SAME_POSE_OKS = 0.6
"""Two estimates of one frame that are this alike are of one person."""
_SURE_OKS = 0.5
"""From here on a detection is preferred to the carried box."""
_FOUND_AGAIN = 0.1
"""A person who was lost is found again from this nearness on; see `box_nearness`."""


class Estimates(Protocol):
    """What a tracker needs of a `PoseEstimator`."""

    @property
    def contract(self) -> ModelContract: ...

    def __call__(
        self, image_bgr: NDArray[Any], boxes_xyxy: ArrayLike | None = None, *, return_maps: MapChoice = False
    ) -> Poses: ...


@dataclass(frozen=True, kw_only=True)
class TrackerSettings:
    """How a `PoseTracker` follows persons.

    Attributes
    ----------
    redetect_every: frames after which the detector looks again, at the latest. It also looks when nobody is followed,
        when somebody was just lost, and when a person has lost half of the present keypoints.
    detector_score: detections with a lower score are left out.
    start_score: a pose needs this instance score to be somebody new, or somebody found again.
    min_score: a person is followed as long as the instance score is at least this.
    most_persons: persons followed at once.
    match_oks: a pose continues a person from this OKS on, against where the person was expected.
    coast_s: how long a person who is not seen is looked for on the expected way, without a detection.
    keep_s: how long a person who is not seen keeps the identity, to be given back to a detection near that place.
    reach: how near, as the standard deviation in lengths of the person.
    smoothing: the share of a map's standard deviation that is taken as noise from frame to frame; the larger, the
        smoother and later. 0 reports keypoints as they were estimated.
    agility: how fast keypoints change their speed, the standard deviation in lengths of the person per s².
    fps: frame rate where no times are given.
    """

    redetect_every: int = 30
    detector_score: float = 0.3
    start_score: float = 0.3
    min_score: float = 0.2
    most_persons: int = 20
    match_oks: float = 0.3
    coast_s: float = 0.5
    keep_s: float = 10.0
    reach: float = 1.0
    smoothing: float = 0.1
    agility: float = 8.0
    fps: float = 30.0

    def __post_init__(self) -> None:
        for name in ("redetect_every", "most_persons"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)!r}. Leave it out for the usual.")
        for name in ("detector_score", "start_score", "min_score", "match_oks"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} must lie in [0, 1], got {getattr(self, name)!r}. Leave it out for the usual.")
        for name in ("coast_s", "keep_s", "reach", "smoothing", "agility", "fps"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0) or (name in ("reach", "agility", "fps") and value == 0):
                raise InputError(f"{name} must be a positive number, got {value!r}. Leave it out for the usual.")


@dataclass(frozen=True, kw_only=True, eq=False)
class TrackedPoses:
    """The persons seen in one frame.

    Attributes
    ----------
    poses: N persons, in the order of their identities. Present keypoints are smoothed, absent ones as estimated;
        `Poses.boxes` are those the poses were estimated from.
    identities: (N,) int64, a number from 1 on that stays with a person.
    raw_keypoints: (N, K, 2) float64 px, as estimated, before smoothing.
    detected: whether the detector looked at this frame.
    unusable_boxes, surplus_boxes: what was left out of its answer; see `Detections`.
    """

    poses: Poses
    identities: NDArray[np.int64]
    raw_keypoints: NDArray[np.float64]
    detected: bool
    unusable_boxes: int = 0
    surplus_boxes: int = 0

    def __len__(self) -> int:
        return len(self.identities)


class PoseTracker:
    """Poses with identities, frame after frame; not safe to call from several threads at once.

    A person is carried from frame to frame by a box around the keypoints expected to be **present**; absent ones never
    move it. Boxes of the detector join in now and then. Poses are assigned to persons by OKS, greedily (see
    `match_greedily`); a person who was lost gets the identity back if found near the same place within `keep_s`: by
    place alone, looks are not compared. Frames may change their size: positions are scaled along.

    Parameters
    ----------
    estimator: a `PoseEstimator`, which stays open.
    detector: a `Detector`; None follows the one main person, found in two passes as by `PoseEstimator` without boxes.
    settings: see `TrackerSettings`.
    keep_maps: keep the maps in the results, to draw them: the calibrated ones if the file was calibrated.
    """

    def __init__(
        self,
        estimator: Estimates,
        detector: Detector | None = None,
        settings: TrackerSettings | None = None,
        *,
        keep_maps: bool = False,
    ) -> None:
        self.settings = TrackerSettings() if settings is None else settings
        self._estimator = estimator
        self._detector: Detector = first_look(estimator) if detector is None else detector
        self._most = 1 if detector is None else self.settings.most_persons
        self._sigmas = np.array(estimator.contract.sigmas)
        contract = estimator.contract
        self._calibrated = {TEMPERATURE_KEY, LOST_SHARE_KEY} <= set(contract.calibration)
        # A file that decodes its maps itself gives none.
        self._calibrated = self._calibrated and contract.output_kind != "decoded"
        self._keep_maps = keep_maps
        self.reset()

    def reset(self) -> None:
        """Forget everybody, as for a new video; identities start at 1 again."""
        self._people: list[TrackedPerson] = []
        self._next_identity = 1
        self._time_s: float | None = None
        self._since_detection = 0
        self._image_wh: tuple[int, int] | None = None

    def __call__(
        self, image_bgr: NDArray[Any], *, time_s: float | None = None, boxes_xyxy: ArrayLike | None = None
    ) -> TrackedPoses:
        """Follow everybody into the next frame.

        image_bgr: (H, W, 3) uint8 BGR, or what `to_bgr` takes. time_s: when it was taken, on any clock; without it
        frames follow at `TrackerSettings.fps`. boxes_xyxy: (N, 4) boxes of persons in this frame, in place of the
        detector's answer.

        Raises `InputError` for images and boxes that `PoseEstimator` does not take, and if the detector does not return
        boxes and scores; boxes of the detector that cannot be used are counted instead.
        """
        settings, image = self.settings, to_bgr(image_bgr)
        image_wh = (image.shape[1], image.shape[0])
        now_s = self._advance(time_s, image_wh)
        found, looked = self._look(image, boxes_xyxy, now_s)
        boxes, from_detector = self._candidate_boxes(found.boxes, image_wh, now_s)
        maps: MapChoice = self._keep_maps
        if self._calibrated and (self._keep_maps or settings.smoothing > 0):
            maps = "calibrated"
        poses = self._estimator(image, boxes, return_maps=maps)
        somebody = (poses.present.sum(axis=1) >= FEWEST_PRESENT) & (poses.scores >= settings.min_score)
        persons = self._assign(poses, somebody, from_detector, now_s)
        return self._report(poses, persons, now_s, looked, found)

    def _advance(self, time_s: float | None, image_wh: tuple[int, int]) -> float:
        """Move everybody to where they are expected; forget those who were lost long ago. Returns the time."""
        before = self._time_s
        if time_s is None:
            time_s = 0.0 if before is None else before + 1 / self.settings.fps
        # A clock that jumps back must not stop the program; a moment passes.
        step_s = 0.0 if before is None else max(time_s - before, 1e-3)
        now_s = self._time_s = time_s
        if before is not None and time_s <= before:
            for person in self._people:
                person.shift_clock(time_s - before - step_s)
        if self._image_wh not in (None, image_wh):
            for person in self._people:
                person.rescale(np.array(image_wh) / np.array(self._image_wh))
        self._image_wh = image_wh
        self._people = [p for p in self._people if now_s - p.last_seen_s <= self.settings.keep_s]
        for person in self._people:
            if now_s - step_s - person.last_seen_s <= self.settings.coast_s:
                person.predict(min(step_s, 0.5), self.settings.agility)
        return now_s

    def _look(self, image: NDArray[np.uint8], boxes_xyxy: ArrayLike | None, now_s: float) -> tuple[Detections, bool]:
        """Boxes from the caller or the detector, and whether the detector looked."""
        self._since_detection += 1
        if boxes_xyxy is not None:
            boxes = check_boxes(boxes_xyxy, (image.shape[1], image.shape[0]))
            self._since_detection = 0
            return Detections(boxes=boxes, scores=np.ones(len(boxes))), False
        seen = [person for person in self._people if person.seen]
        must = not seen or self._since_detection >= self.settings.redetect_every
        must = must or any(person.lost_keypoints for person in seen)
        must = must or any(not p.seen and now_s - p.last_seen_s <= self.settings.coast_s for p in self._people)
        if not must:
            return Detections(boxes=np.zeros((0, 4)), scores=np.zeros(0)), False
        self._since_detection = 0
        return detect(self._detector, image, min_score=self.settings.detector_score, most=self._most), True

    def _candidate_boxes(
        self, found: NDArray[np.float64], image_wh: tuple[int, int], now_s: float
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """(C, 4) boxes to estimate poses from, and (C,) which of them are detections."""
        carried = []
        for person in self._people:
            if now_s - person.last_seen_s <= self.settings.coast_s:
                box = person.carried_box(image_wh)
                if box is not None and not (box_iou(box[None], found) >= _SAME_BOX_IOU).any():
                    carried.append(box)
        boxes = np.concatenate([found, np.array(carried).reshape(-1, 4)])
        return boxes, np.arange(len(boxes)) < len(found)

    def _assign(
        self, poses: Poses, somebody: NDArray[np.bool_], from_detector: NDArray[np.bool_], now_s: float
    ) -> list[tuple[int, TrackedPerson, bool]]:
        """Pairs of pose and person, and whether the person is followed without a break."""
        near = [p for p in self._people if now_s - p.last_seen_s <= self.settings.coast_s]
        alike = self._pose_similarity(poses)
        accepted: list[int] = []

        def accept(candidate: int) -> bool:
            """Whether nobody else has this pose already."""
            new = somebody[candidate] and not (alike[candidate, accepted] >= _SAME_POSE_OKS).any()
            if new:
                accepted.append(candidate)
            return bool(new)

        persons: list[tuple[int, TrackedPerson, bool]] = []
        found_rows: set[int] = set()
        similarity = self._similarity(near, poses)
        # Detections first, which are better than the carried boxes: those may have drifted.
        for usable, least in ((from_detector, _SURE_OKS), (None, 0.0)):
            if len(found_rows) == len(near):
                break
            masked = similarity.copy() if usable is None else np.where(usable, similarity, 0.0)
            masked[list(found_rows)] = 0.0
            masked[:, accepted] = 0.0
            for row, column in match_greedily(masked, max(least, self.settings.match_oks, 1e-6), accept):
                found_rows.add(row)
                persons.append((column, near[row], True))
        followed = {person.identity for _, person, _ in persons}
        missing = [person for person in self._people if person.identity not in followed]
        sure = np.flatnonzero(from_detector & (poses.scores >= self.settings.start_score)).tolist()
        free = [candidate for candidate in sure if candidate not in accepted]
        if missing and free:
            nearness = box_nearness(
                np.array([p.box for p in missing]),
                np.array([p.side for p in missing]),
                poses.boxes[free],
                self.settings.reach,
            )
            for row, column in match_greedily(nearness, _FOUND_AGAIN, lambda column: accept(free[column])):
                persons.append((free[column], missing[row], False))
        for candidate in free:
            if candidate not in accepted and len(persons) < self._most and accept(candidate):
                person = TrackedPerson(identity=self._next_identity, keypoint_count=poses.keypoints.shape[1])
                self._next_identity += 1
                self._people.append(person)
                persons.append((candidate, person, False))
        return sorted(persons, key=lambda item: item[1].identity)

    def _similarity(self, people: list[TrackedPerson], poses: Poses) -> NDArray[np.float64]:
        """(P, C) OKS of where persons are expected and the poses."""
        k = poses.keypoints.shape[1]
        expected = np.array([person.keypoints for person in people]).reshape(-1, k, 2)
        present = np.array([person.present for person in people], dtype=bool).reshape(-1, k)
        areas = box_areas(np.array([person.box for person in people]).reshape(-1, 4))
        areas = np.maximum(areas[:, None], box_areas(poses.boxes)[None])
        return pose_oks(expected, present, poses.keypoints, poses.present, areas, self._sigmas)

    def _pose_similarity(self, poses: Poses) -> NDArray[np.float64]:
        """(C, C) OKS of the poses with one another."""
        if len(poses) == 1:
            return np.ones((1, 1))
        areas = box_areas(poses.boxes)
        areas = np.minimum(areas[:, None], areas[None])
        return pose_oks(poses.keypoints, poses.present, poses.keypoints, poses.present, areas, self._sigmas)

    def _report(
        self,
        poses: Poses,
        persons: list[tuple[int, TrackedPerson, bool]],
        now_s: float,
        looked: bool,
        found: Detections,
    ) -> TrackedPoses:
        """Bring everybody up to date and collect those who are seen."""
        for person in self._people:
            person.seen = False
        chosen = [candidate for candidate, _, _ in persons]
        noise = self._noise(poses)
        seen = poses if self._keep_maps else _without_maps(poses)
        if chosen != list(range(len(poses))):
            noise, seen = noise[chosen], seen.select(chosen)
        keypoints = seen.keypoints.copy()
        for row, (_, person, followed) in enumerate(persons):
            smoothed = person.observe(
                seen, row, noise[row], now_s, followed=followed, detected=self._since_detection == 0
            )
            if self.settings.smoothing > 0:
                keypoints[row] = smoothed
        for person in self._people:
            if not person.seen:
                person.glide()
        return TrackedPoses(
            poses=dataclasses.replace(seen, keypoints=keypoints),
            identities=np.array([person.identity for _, person, _ in persons], dtype=np.int64),
            raw_keypoints=seen.keypoints,
            detected=looked,
            unusable_boxes=found.unusable,
            surplus_boxes=found.surplus,
        )

    def _noise(self, poses: Poses) -> NDArray[np.float64]:
        """(N, K, 2, 2) px²: covariance of the change of an estimate from one frame to the next."""
        sides = (poses.boxes[:, 2:] - poses.boxes[:, :2]).max(axis=1, initial=0)
        # A pixel of the network's input, about: no estimate repeats more exactly.
        least = np.square(0.004 * sides)[:, None, None, None] * np.eye(2)
        if self._calibrated and poses.maps is not None:
            return np.asarray(map_covariances(poses.maps, poses.windows) * self.settings.smoothing**2 + least)
        # A file without calibration: the annotators' spread (COCO: 2 sigma of the square root of the area).
        spread = np.square(2 * self._sigmas) * box_areas(poses.boxes)[:, None]
        return np.asarray(spread[..., None, None] * np.eye(2) * self.settings.smoothing**2 + least)


def _without_maps(poses: Poses) -> Poses:
    return dataclasses.replace(poses, maps=None, map_kind="heatmap" if poses.map_kind == "heatmap" else "")


def first_look(estimator: Estimates) -> Detector:
    """The one main person of a picture, by a pose of the whole picture: a detector for who has none.

    It gives the box around the present keypoints, or none if fewer than `FEWEST_PRESENT` are present.
    """

    def find(image_bgr: NDArray[np.uint8], /) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        image_wh = (image_bgr.shape[1], image_bgr.shape[0])
        first = estimator(image_bgr, np.array([[0.0, 0.0, *image_wh]]))
        box = person_box(first.keypoints[0], first.present[0], image_wh)
        if box is None:
            return np.zeros((0, 4)), np.zeros(0)
        return box[None], np.ones(1)

    return find
