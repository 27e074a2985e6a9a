"""A tracker on persons that are drawn as five colored dots, which a fake network finds by their colors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import pytest

from probpose_edge import (
    InputError,
    ModelContract,
    PoseEstimator,
    Poses,
    PoseTracker,
    RawOutputs,
    TrackedPoses,
    TrackerSettings,
)
from probpose_edge.tracking.track_person import TrackedPerson

COLORS = np.array([[250, 30, 30], [30, 250, 30], [30, 30, 250], [250, 250, 30], [30, 250, 250]])  # RGB
OFFSETS = np.array([[0.0, -50], [35, -10], [-35, -10], [20, 50], [-20, 50]])
SIZE_WH = (400, 300)


def draw(*places: tuple[float, float], hidden: Sequence[int] = (), wh: tuple[int, int] = SIZE_WH) -> np.ndarray:
    """Persons around these places, the last one in front, without the hidden keypoints."""
    image = np.zeros((wh[1], wh[0], 3), np.uint8)
    for x, y in places:
        cv2.rectangle(image, (round(x) - 42, round(y) - 58), (round(x) + 42, round(y) + 58), (25, 25, 25), -1)
        for k, (dx, dy) in enumerate(OFFSETS):
            if k not in hidden:
                cv2.circle(image, (round(x + dx), round(y + dy)), 6, COLORS[k][::-1].tolist(), -1)
    return image


class DotRuntime:
    """Finds the dots nearest to the middle of a crop. A keypoint without a dot is absent, guessed at `guess`."""

    name, provenance = "dots", "simulated"

    def __init__(self) -> None:
        self.crops = 0
        self.guess = (0.0, 0.0)

    def run(self, crops: np.ndarray) -> RawOutputs:
        self.crops += len(crops)
        cells = np.tile(np.array(self.guess), (len(crops), 5, 1))
        presence = np.full((len(crops), 5), 0.05, np.float32)
        for n, crop in enumerate(crops):
            middle = np.array(crop.shape[1::-1]) / 2
            for k, color in enumerate(COLORS):
                rows, columns = np.nonzero(np.abs(crop.astype(int) - color).max(axis=2) < 60)
                if len(rows):
                    spots = np.stack([columns, rows], axis=1)
                    nearest = spots[np.linalg.norm(spots - middle, axis=1).argmin()]
                    spot = spots[np.linalg.norm(spots - nearest, axis=1) < 5].mean(axis=0)
                    cells[n, k] = spot / (np.array(crop.shape[1::-1]) - 1) * (11, 15)
                    presence[n, k] = 0.95
        y, x = np.mgrid[:16, :12]
        distance = (x - cells[..., 0, None, None]) ** 2 + (y - cells[..., 1, None, None]) ** 2
        return RawOutputs(logits=-distance.astype(np.float32), presence=presence, visibility=presence, quality=presence)

    def close(self) -> None:
        pass


class Boxes:
    """A detector that is told where persons are; it counts how often it is asked."""

    def __init__(self) -> None:
        self.places: list[tuple[float, float]] = []
        self.asked = 0

    def __call__(self, image: np.ndarray) -> tuple[Any, Any]:
        self.asked += 1
        boxes = np.array([[x - 42, y - 58, x + 42, y + 58] for x, y in self.places]).reshape(-1, 4)
        on = (boxes[:, 2] > 0) & (boxes[:, 0] < image.shape[1])
        return boxes[on], np.full(on.sum(), 0.9)


@pytest.fixture
def make(contract: ModelContract) -> Callable[..., tuple[PoseTracker, DotRuntime, Boxes]]:
    def build(single: bool = False, **settings: Any) -> tuple[PoseTracker, DotRuntime, Boxes]:
        runtime, boxes = DotRuntime(), Boxes()
        calibrated = contract.replace(calibration={"coverage_temperature": 1.0, "lost_share": 0.01})
        estimator = PoseEstimator(runtime, calibrated)
        chosen = TrackerSettings(**settings)
        return PoseTracker(estimator, None if single else boxes, chosen), runtime, boxes

    return build


def step(tracker: PoseTracker, boxes: Boxes, *places: tuple[float, float], **drawing: Any) -> TrackedPoses:
    boxes.places = list(places)
    return tracker(draw(*places, **drawing))


def test_a_person_is_carried_along_without_the_detector(make: Callable[..., Any]) -> None:
    tracker, _, boxes = make(redetect_every=10)
    for frame in range(25):
        place = (60.0 + 8 * frame, 150.0)
        result = step(tracker, boxes, place)
        assert result.identities.tolist() == [1]
        assert result.detected == (frame in (0, 10, 20))
        np.testing.assert_allclose(result.poses.keypoints[0], OFFSETS + place, atol=6)
        np.testing.assert_allclose(result.raw_keypoints[0], OFFSETS + place, atol=6)
    assert boxes.asked == 3


def test_absent_keypoints_do_not_move_the_box(make: Callable[..., Any]) -> None:
    """Wherever the network guesses hidden feet, the box is the same, and the guess is reported as it was made."""
    seen = []
    for guess in ((0.0, 0.0), (11.0, 15.0), (5.0, 2.0)):
        tracker, runtime, boxes = make()
        runtime.guess = guess
        for frame in range(12):
            result = step(tracker, boxes, (150 + 3 * frame, 150.0), hidden=[3, 4])
        seen.append(result)
        assert result.poses.present[0].tolist() == [True, True, True, False, False]
        np.testing.assert_array_equal(result.poses.keypoints[0, 3:], result.raw_keypoints[0, 3:])
    for other in seen[1:]:
        np.testing.assert_allclose(other.poses.boxes, seen[0].poses.boxes, atol=1e-6)
        assert np.abs(other.poses.keypoints[0, 3] - seen[0].poses.keypoints[0, 3]).max() > 20


def test_persons_who_cross_keep_their_identities(make: Callable[..., Any]) -> None:
    tracker, _, boxes = make(redetect_every=15)
    together = 0
    for frame in range(50):
        back, front = (50.0 + 6 * frame, 140.0), (350.0 - 6 * frame, 160.0)
        result = step(tracker, boxes, back, front)
        order = dict(zip(result.identities.tolist(), result.poses.keypoints.mean(axis=1)[:, 0], strict=True))
        if frame == 0:
            ours, theirs = (min(order, key=lambda k: abs(order[k] - x)) for x in (back[0], front[0]))
        assert set(order) <= {ours, theirs}
        together += len(order) < 2
        for identity, own, other in ((ours, back, front), (theirs, front, back)):
            if identity in order and abs(back[0] - front[0]) > 60:
                assert abs(order[identity] - own[0]) < abs(order[identity] - other[0])
    assert set(order) == {ours, theirs}
    assert max(abs(order[ours] - back[0]), abs(order[theirs] - front[0])) < 6
    assert together < 15


def test_a_person_who_walks_out_and_back_keeps_the_identity(make: Callable[..., Any]) -> None:
    tracker, _, boxes = make()
    way = [*range(200, 500, 12), *range(500, 200, -12)]
    identities = [step(tracker, boxes, (float(x), 150.0)).identities.tolist() for x in way]
    assert [] in identities
    assert {identity for some in identities for identity in some} == {1}
    assert identities[-1] == [1]


def test_after_long_or_elsewhere_it_is_somebody_new(make: Callable[..., Any]) -> None:
    tracker, _, boxes = make(keep_s=1.0)
    step(tracker, boxes, (80.0, 150.0))
    for _ in range(10):
        assert len(step(tracker, boxes)) == 0
    assert step(tracker, boxes, (85.0, 150.0)).identities.tolist() == [1]
    for _ in range(40):
        step(tracker, boxes)
    assert step(tracker, boxes, (85.0, 150.0)).identities.tolist() == [2]
    for _ in range(10):
        step(tracker, boxes)
    assert step(tracker, boxes, (350.0, 150.0)).identities.tolist() == [3]


def test_minutes_without_anybody(make: Callable[..., Any]) -> None:
    tracker, runtime, boxes = make(fps=5)
    step(tracker, boxes, (200.0, 150.0))
    empty = draw()
    boxes.places = []
    for _ in range(600):
        result = tracker(empty)
    assert len(result) == 0
    assert result.poses.keypoints.shape == (0, 5, 2)
    assert runtime.crops < 40
    assert tracker._people == []
    assert step(tracker, boxes, (200.0, 150.0)).identities.tolist() == [2]


def test_the_detector_looks_when_a_person_is_lost(make: Callable[..., Any]) -> None:
    tracker, _, boxes = make(redetect_every=1000)
    for _ in range(3):
        step(tracker, boxes, (200.0, 150.0))
    assert boxes.asked == 1
    # Two of five are left: too few to be somebody.
    assert len(step(tracker, boxes, (200.0, 150.0), hidden=[0, 3, 4])) == 0
    assert step(tracker, boxes, (200.0, 150.0)).detected
    assert boxes.asked == 2


def test_a_person_with_half_of_the_keypoints_asks_for_the_detector() -> None:
    rng = np.random.default_rng(0)
    scalar = np.ones((1, 8), np.float32)
    presence = np.ones((1, 8), np.float32)
    person = TrackedPerson(identity=1, keypoint_count=8)

    def observe(present: int, detected: bool) -> bool:
        poses = Poses(
            keypoints=rng.uniform(0, 100, (1, 8, 2)),
            presence=np.where(np.arange(8) < present, presence, 0),
            visibility=scalar,
            quality=scalar,
            expected_oks=scalar,
            boxes=np.array([[0.0, 0, 100, 100]]),
            windows=np.array([[50.0, 50, 125, 125]]),
            scores=scalar[:, 0],
            presence_threshold=0.5,
        )
        person.observe(poses, 0, np.tile(np.eye(2), (8, 1, 1)), 0.0, followed=True, detected=detected)
        return person.lost_keypoints

    assert not observe(8, True)
    assert not observe(4, False)
    assert observe(3, False)
    assert not observe(3, True)  # the detector has looked: that is all there is
    assert not observe(3, False)


def test_what_a_detector_gets_wrong_is_counted(make: Callable[..., Any]) -> None:
    tracker, _, _ = make(most_persons=3)
    bad = [[np.nan] * 4, [5, 5, 1, 1]]
    crowd = [[158 + i / 1000, 92, 242, 208] for i in range(3000)]
    tracker._detector = lambda image: (bad + crowd, [0.9] * 3002)
    result = tracker(draw((200.0, 150.0)))
    assert result.identities.tolist() == [1]  # three equal poses are one person
    assert (result.unusable_boxes, result.surplus_boxes) == (2, 2997)
    tracker._detector = lambda image: "nobody"
    tracker.reset()
    with pytest.raises(InputError, match="A detector must return boxes"):
        tracker(draw())


def test_frames_may_change_their_size(make: Callable[..., Any]) -> None:
    tracker, _, boxes = make()
    for frame in range(4):
        result = step(tracker, boxes, (200.0 + 3 * frame, 150.0))
    for scale in (2.0, 0.75, 1.0):
        image = cv2.resize(draw((212.0, 150.0)), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        result = tracker(image)
        assert result.identities.tolist() == [1]
        assert not result.detected
        np.testing.assert_allclose(result.raw_keypoints[0] / scale, OFFSETS + np.array([212, 150]), atol=7)


def test_boxes_given_by_hand_take_the_place_of_the_detector(make: Callable[..., Any]) -> None:
    tracker, _, boxes = make()
    given = [[158, 92, 242, 208], [20.0, 92, 104, 208]]
    result = tracker(draw((200.0, 150.0), (62.0, 150.0)), boxes_xyxy=given)
    assert result.identities.tolist() == [1, 2]
    np.testing.assert_array_equal(result.poses.boxes, given)
    assert boxes.asked == 0
    assert tracker(draw((203.0, 150.0), (62.0, 150.0))).identities.tolist() == [1, 2]
    with pytest.raises(InputError, match="Box 0 must overlap"):
        tracker(draw(), boxes_xyxy=[[500, 0, 600, 10]])


def test_times_may_be_given_jump_back_or_leave_a_gap(make: Callable[..., Any]) -> None:
    tracker, _, boxes = make(keep_s=2.0)
    boxes.places = [(200.0, 150.0)]
    image = draw((200.0, 150.0))
    seen = [tracker(image, time_s=t).identities.tolist() for t in (100.0, 100.04, 100.04, 50.0, 50.04, 50.1)]
    assert seen == [[1]] * 6
    assert tracker(image, time_s=60.0).identities.tolist() == [2]
    tracker.reset()
    assert tracker(image).identities.tolist() == [1]


def test_one_person_is_found_in_two_passes_without_a_detector(make: Callable[..., Any]) -> None:
    tracker, runtime, _ = make(single=True, redetect_every=1000)
    first = tracker(draw((200.0, 150.0)))
    assert first.detected
    assert first.identities.tolist() == [1]
    assert runtime.crops == 2
    second = tracker(draw((204.0, 150.0), (60.0, 150.0)))
    assert second.identities.tolist() == [1]  # the other one is nobody's business
    assert runtime.crops == 3
    assert len(tracker(draw())) == 0
    assert len(make(single=True)[0](draw())) == 0


def test_smoothing_steadies_and_can_be_left_out(make: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)
    places = np.array([200.0, 150.0]) + rng.normal(0, 3, (60, 2))
    moves = {}
    for smoothing in (0.0, 1.0):
        tracker, _, boxes = make(smoothing=smoothing)
        results = [step(tracker, boxes, tuple(place)) for place in places]
        points = np.array([result.poses.keypoints[0] for result in results])
        moves[smoothing] = np.abs(np.diff(points, axis=0)).mean()
        if smoothing == 0:
            np.testing.assert_array_equal(points, [result.raw_keypoints[0] for result in results])
    assert moves[1.0] < 0.7 * moves[0.0]


def test_files_without_calibration_are_smoothed_too(contract: ModelContract) -> None:
    tracker = PoseTracker(PoseEstimator(DotRuntime(), contract), None)
    for x in (200.0, 203.0, 199.0):
        result = tracker(draw((x, 150.0)))
    assert result.identities.tolist() == [1]
    assert (result.poses.keypoints != result.raw_keypoints).any()


def test_files_that_decode_their_maps_themselves_are_asked_for_none(contract: ModelContract) -> None:
    estimator = PoseEstimator(DotRuntime(), contract)
    asked = []

    class Decoded:
        contract = estimator.contract.replace(
            output_kind="decoded", calibration={"coverage_temperature": 1.0, "lost_share": 0.01}
        )

        def __call__(self, image: np.ndarray, boxes: Any = None, *, return_maps: Any = False) -> Poses:
            asked.append(return_maps)
            return estimator(image, boxes)

    tracker = PoseTracker(Decoded(), None)
    assert [tracker(draw((x, 150.0))).identities.tolist() for x in (200.0, 203.0)] == [[1], [1]]
    assert set(asked) == {False}


def test_maps_are_kept_where_they_are_drawn(make: Callable[..., Any]) -> None:
    tracker, _, boxes = make()
    dropped = step(tracker, boxes, (200.0, 150.0)).poses
    assert (dropped.maps, dropped.map_kind) == (None, "")
    kept = PoseTracker(tracker._estimator, boxes, keep_maps=True)(draw((200.0, 150.0))).poses
    assert kept.maps is not None
    assert kept.maps.shape == (1, 5, 16, 12)
    assert kept.map_kind == "calibrated"


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"redetect_every": 0}, "redetect_every must be at least 1, got 0"),
        ({"min_score": 2}, r"min_score must lie in \[0, 1\], got 2"),
        ({"smoothing": float("nan")}, "smoothing must be a positive number, got nan"),
        ({"fps": 0}, "fps must be a positive number, got 0"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(InputError, match=text):
        TrackerSettings(**settings)
