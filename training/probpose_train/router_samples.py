"""What a router learns from: disturbed crops of training persons, and how far both members are off on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from probpose_edge.estimator import PoseEstimator
from probpose_edge.exceptions import AnnotationError, InputError
from probpose_edge.skeletons.skeleton import Skeleton
from probpose_eval.metrics.okd import okd, relative_gain
from probpose_eval.metrics.oks import oks
from probpose_models.router import image_plane
from probpose_train.augment import PlannedSample, WindowFrame, plan_sample
from probpose_train.config import AugmentConfig, DataSource
from probpose_train.cut_crop import CropPlan, cut_crop
from probpose_train.sources import PersonSet

DISTURBED = AugmentConfig(
    half_body=0.15,
    rotate=0.4,
    rotation_deg=30.0,
    scale=(0.75, 1.35),
    shift=0.1,
    crop=0.4,
    colour=0.5,
    blur=0.4,
    paste=0.35,
)
"""Boxes of a careless detector, cut, covered, blurred and turned persons: members were trained on these pictures and
hardly err on clean ones."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RouterSamples:
    """M crops.

    Attributes
    ----------
    planes: input size (width, height) → (M, H / 2, W / 2) uint8, what a router of that size sees of the crops
        (`probpose_models.router.image_plane`).
    small_okd, large_okd: (M,) float64, see `probpose_eval.metrics.okd`. small_oks, large_oks: (M,) float64.
    pictures: (M,) int64, the same number for crops of the same picture.
    """

    planes: dict[tuple[int, int], NDArray[np.uint8]]
    small_okd: NDArray[np.float64]
    large_okd: NDArray[np.float64]
    small_oks: NDArray[np.float64]
    large_oks: NDArray[np.float64]
    pictures: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def targets(self) -> NDArray[np.float64]:
        """(M,) what the router is to say, in [0, 1]."""
        return relative_gain(self.small_okd, self.large_okd)


def collect_router_samples(
    small: PoseEstimator,
    large: PoseEstimator,
    sources: Sequence[DataSource],
    *,
    samples: int = 12_000,
    seed: int = 0,
    batch: int = 16,
    progress: Callable[[int, int], None] | None = None,
) -> RouterSamples:
    """Run both members over random crops of the persons of `sources`, drawn by their shares.

    progress: called with (crops done, crops in all). Every sample depends on the seed and its number alone.

    Raises `InputError` for less than one sample, `AnnotationError` for sets with other keypoints, without persons, or
    of drawn people.
    """
    if samples < 1:
        raise InputError(f"Routing is learned from at least 1 sample, got {samples}. Usual are 10000.")
    sets = [_persons(source, small) for source in sources]
    frame = router_frame(small, large)
    sizes = tuple(dict.fromkeys((small.contract.input_wh, large.contract.input_wh)))
    members = {"small": small, "large": large}
    parts: list[RouterSamples] = []
    first = 0
    while first < samples:
        last = min(first + batch, samples)
        drawn = [_draw(sets, sources, frame, seed, index) for index in range(first, last)]
        crops = {wh: np.stack([cut_at(sample.plan, frame.input_wh, wh) for sample, _ in drawn]) for wh in sizes}
        keypoints = {
            name: _in_frame(member, crops[member.contract.input_wh], frame.input_wh) for name, member in members.items()
        }
        parts.append(_measured(drawn, keypoints, crops, small.contract.sigmas))
        first = last
        if progress is not None:
            progress(first, samples)
    return join_samples(parts)


def router_frame(small: PoseEstimator, large: PoseEstimator) -> WindowFrame:
    """Geometry in which both members are compared: the pixels of the larger of the two crops."""
    wide = max(small.contract.input_wh, large.contract.input_wh)
    return WindowFrame(
        input_wh=wide,
        heatmap_wh=wide,
        padding=small.contract.padding,
        flip_permutation=Skeleton.of(small.contract).flip_permutation,
    )


def cut_at(plan: CropPlan, frame_wh: tuple[int, int], input_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """Crop (H, W, 3) uint8 RGB of a plan made for crops of `frame_wh`, cut from the picture at another size."""
    if input_wh == frame_wh:
        return cut_crop(plan, input_wh)
    scale = (np.array(input_wh, dtype=np.float64) - 1) / (np.array(frame_wh) - 1)
    paste = plan.paste
    if paste is not None:
        x0, y0, x1, y1 = (int(value) for value in np.round(np.array(paste.rectangle_xyxy) * np.tile(scale, 2)))
        paste = dataclasses.replace(paste, matrix=paste.matrix * scale[:, None], rectangle_xyxy=(x0, y0, x1, y1))
    # Detail that is lost at one size is lost at the other.
    distortion = dataclasses.replace(
        plan.distortion,
        shrink=max(1.0, plan.distortion.shrink * float(scale[0])),
        blur_sigma=plan.distortion.blur_sigma * float(scale[0]),
    )
    smaller = dataclasses.replace(plan, matrix=plan.matrix * scale[:, None], paste=paste, distortion=distortion)
    return cut_crop(smaller, input_wh)


def join_samples(parts: Sequence[RouterSamples]) -> RouterSamples:
    """One set of samples after another; all have planes of the same sizes."""
    names = [field.name for field in dataclasses.fields(RouterSamples) if field.name != "planes"]
    return RouterSamples(
        planes={wh: np.concatenate([part.planes[wh] for part in parts]) for wh in parts[0].planes},
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names},
    )


def _persons(source: DataSource, member: PoseEstimator) -> PersonSet:
    if source.annotations == "synth":
        raise AnnotationError(
            "A router learns from photographs, because drawn people are hard in other ways, got synth. Name an "
            "annotated set, annotations.json:images/."
        )
    people = PersonSet(source)
    if people.keypoint_names != member.contract.keypoint_names:
        raise AnnotationError(
            f"A set must name the keypoints of the pair in the same order; {source.annotations} has "
            f"{', '.join(people.keypoint_names)}, the pair {', '.join(member.contract.keypoint_names)}. Use a matching "
            "set."
        )
    return people


def _draw(
    sets: Sequence[PersonSet], sources: Sequence[DataSource], frame: WindowFrame, seed: int, index: int
) -> tuple[PlannedSample, int]:
    """A sample with a keypoint to measure, and a number of its picture."""
    rng = np.random.default_rng((seed, index))
    shares = np.cumsum([source.share for source in sources])
    while True:
        number = min(int(np.searchsorted(shares, rng.random() * shares[-1])), len(sets) - 1)
        people = sets[number]
        chosen, other = (int(value) for value in rng.integers(len(people), size=2))
        sample = plan_sample(people.person(chosen), rng, frame, DISTURBED, partial(people.person, other))
        if sample.map_mask.any():
            return sample, people.persons[chosen].image_id * len(sets) + number


def _in_frame(member: PoseEstimator, crops: NDArray[np.uint8], frame_wh: tuple[int, int]) -> NDArray[np.float64]:
    """(N, K, 3) keypoints in the pixels of crops of `frame_wh`, and their presence."""
    width, height = frame_wh
    window = np.array([(width - 1) / 2, (height - 1) / 2, width - 1, height - 1], dtype=np.float64)
    poses = member.predict_crops(crops, np.tile(window, (len(crops), 1)))
    return np.concatenate([poses.keypoints, poses.presence[..., None]], axis=2, dtype=np.float64)


def _measured(
    drawn: Sequence[tuple[PlannedSample, int]],
    keypoints: dict[str, NDArray[np.float64]],
    crops: dict[tuple[int, int], NDArray[np.uint8]],
    sigmas: Sequence[float],
) -> RouterSamples:
    places = np.stack([sample.points_cell for sample, _ in drawn]).astype(np.float64)
    counts = np.stack([sample.map_mask for sample, _ in drawn])
    visible = np.stack([sample.visibility > 0 for sample, _ in drawn])
    truth = np.concatenate([places, np.where(counts, np.where(visible, 2, 1), 0)[..., None]], axis=2)
    areas = np.array([float(sample.area_cell) for sample, _ in drawn])
    boxes = np.zeros((len(truth), 4))  # read for persons without a counted keypoint, and there are none
    return RouterSamples(
        planes={wh: image_plane(images) for wh, images in crops.items()},
        small_okd=okd(truth, areas, keypoints["small"], sigmas),
        large_okd=okd(truth, areas, keypoints["large"], sigmas),
        small_oks=oks(truth, boxes, areas, keypoints["small"], sigmas),
        large_oks=oks(truth, boxes, areas, keypoints["large"], sigmas),
        pictures=np.array([picture for _, picture in drawn], dtype=np.int64),
    )
