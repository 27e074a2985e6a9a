"""What a tracker remembers of one person."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from probpose_edge.detectors.whole_image import person_box
from probpose_edge.poses import Poses
from probpose_edge.tracking import smooth

_FORGET_S = 0.5
"""A keypoint that was absent for longer starts anew."""
_FASTEST = 3.0
"""Speed that a keypoint may have at first, in lengths of the person per second."""
_SHRINK = 0.98
"""A person shrinks by this per frame at most: a box that is cut by the border does not mean a smaller person."""
_BOX_INERTIA = 0.5
"""Share of the size that a box keeps from the frame before, so that one keypoint more or less does not make it jump."""
_SLOW_SHRINK = 0.999
"""The same of the size that is remembered of a person who may only be partly in the picture."""
_AT_BORDER_PX = 1.5
_LEAST_COVARIANCE = 1e-9 * np.eye(4)


@dataclass(kw_only=True, eq=False)
class TrackedPerson:
    """One person with K keypoints; everything in image pixels.

    Attributes
    ----------
    keypoints: (K, 2), where they are expected, or were seen last.
    present: (K,) bool, which of them were present then. Only these are asked for anything.
    box: (4,) xyxy, around the present ones.
    side: how long the person is, px: the longer side of the largest box of the last seconds.
    seen: whether the person was seen in the last frame.
    lost_keypoints: whether fewer than half of the keypoints of the last detection are present.
    """

    identity: int
    keypoint_count: int
    box: NDArray[np.float64] = field(default_factory=lambda: np.zeros(4))
    side: float = 1.0
    last_seen_s: float = 0.0
    seen: bool = False
    lost_keypoints: bool = False
    _usual: int = 0

    def __post_init__(self) -> None:
        k = self.keypoint_count
        self.keypoints, self.present = np.zeros((k, 2)), np.zeros(k, dtype=bool)
        self._mean, self._covariance = np.zeros((k, 4)), np.zeros((k, 4, 4))
        self._present_s = np.full(k, -np.inf)
        self._seen_box, self._whole_wh = (0.0, 0.0, 0.0, 0.0), (0.0, 0.0)

    def predict(self, seconds: float, agility: float) -> None:
        """Move the person on; agility: see `TrackerSettings`."""
        if seconds > 0:
            self._mean, self._covariance = smooth.predict(
                self._mean, self._covariance, seconds, np.float64(agility * self.side)
            )
            moved = self._mean[:, :2] - self.keypoints
            self.keypoints = self._mean[:, :2].copy()
            if self.present.any():
                self.box = self.box + np.tile(_middle(moved[self.present]), 2)

    def carried_box(self, image_wh: tuple[int, int]) -> NDArray[np.float64] | None:
        """Where to look for the person in this frame: around the present keypoints; None off the picture.

        Edges that were cut by the border stay there while keypoints are absent, as far as the person is known to reach:
        around the present ones alone, nobody who comes back into the picture would be seen whole again.
        """
        fresh = person_box(self.keypoints, self.present, image_wh)
        if fresh is None:
            return None
        left, top, right, bottom = fresh.tolist()
        old_left, old_top, old_right, old_bottom = self.box.tolist()
        half_w = (_BOX_INERTIA * (old_right - old_left) + (1 - _BOX_INERTIA) * (right - left)) / 2
        half_h = (_BOX_INERTIA * (old_bottom - old_top) + (1 - _BOX_INERTIA) * (bottom - top)) / 2
        x, y = (left + right) / 2, (top + bottom) / 2
        left, top = max(x - half_w, 0.0), max(y - half_h, 0.0)
        right, bottom = min(x + half_w, image_wh[0]), min(y + half_h, image_wh[1])
        if not self.present.all():
            seen, (whole_w, whole_h) = self._seen_box, self._whole_wh
            new_left = min(left, max(right - whole_w, 0.0)) if seen[0] <= _AT_BORDER_PX else left
            new_top = min(top, max(bottom - whole_h, 0.0)) if seen[1] <= _AT_BORDER_PX else top
            if seen[2] >= image_wh[0] - _AT_BORDER_PX:
                right = max(right, min(left + whole_w, image_wh[0]))
            if seen[3] >= image_wh[1] - _AT_BORDER_PX:
                bottom = max(bottom, min(top + whole_h, image_wh[1]))
            left, top = new_left, new_top
        return np.array([left, top, right, bottom]) if min(right - left, bottom - top) > 1 else None

    def observe(
        self,
        poses: Poses,
        row: int,
        noise: NDArray[np.float64],
        now_s: float,
        *,
        followed: bool,
        detected: bool,
    ) -> NDArray[np.float64]:
        """Take over the pose `row`. noise: (K, 2, 2) px². followed: False starts the movement anew.

        Returns (K, 2) px: smoothed where present, as estimated where absent.
        """
        points, present = poses.keypoints[row], poses.presence[row] >= poses.presence_threshold
        self.box = poses.boxes[row].copy()
        left, top, right, bottom = self.box.tolist()
        self.side = max(right - left, bottom - top, 1.0, self.side * _SHRINK)
        self._seen_box = (left, top, right, bottom)
        whole_w, whole_h = self._whole_wh
        self._whole_wh = (max(right - left, whole_w * _SLOW_SHRINK), max(bottom - top, whole_h * _SLOW_SHRINK))
        recent = (now_s - self._present_s <= _FORGET_S) & followed
        known = recent & present
        if recent.any():
            mean, covariance = smooth.update(self._mean, self._covariance + _LEAST_COVARIANCE, points, noise)
            if not known.all():
                gone = recent > present
                mean[gone], covariance[gone] = self._mean[gone], self._covariance[gone]
        if not recent.all():
            first, uncertainty = smooth.start(points, noise, _FASTEST * self.side)
            if recent.any():
                first[recent], uncertainty[recent] = mean[recent], covariance[recent]
            mean, covariance = first, uncertainty
        self._mean, self._covariance = mean, covariance
        self._present_s[present] = now_s
        self.keypoints, self.present = mean[:, :2].copy(), present.copy()
        self.last_seen_s, self.seen = now_s, True
        count = int(np.count_nonzero(present))
        if detected or not followed:
            self._usual = count
        self.lost_keypoints = 2 * count < self._usual
        return np.where(present[:, None], mean[:, :2], points)

    def glide(self) -> None:
        """Not seen: all keypoints go on with the speed of the person, not each with its own."""
        if self.present.any():
            self._mean[:, 2:] = _middle(self._mean[self.present, 2:])

    def shift_clock(self, seconds: float) -> None:
        """The clock was set by this."""
        self.last_seen_s += seconds
        self._present_s += seconds

    def rescale(self, factors: NDArray[np.float64]) -> None:
        """The picture changed its size by these factors [x, y]."""
        four = np.tile(factors, 2)
        self.keypoints, self.box, self.side = (
            self.keypoints * factors,
            self.box * four,
            self.side * float(factors.max()),
        )
        x, y = factors.tolist()
        left, top, right, bottom = self._seen_box
        self._seen_box, (whole_w, whole_h) = (left * x, top * y, right * x, bottom * y), self._whole_wh
        self._whole_wh = (whole_w * x, whole_h * y)
        self._mean, self._covariance = self._mean * four, self._covariance * np.outer(four, four)


def _middle(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The upper median of each column of (M, 2) rows; `numpy.median` takes five times as long on so few."""
    return np.asarray(np.sort(rows, axis=0)[len(rows) // 2])
