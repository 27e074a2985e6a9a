"""How far what one model says drifted from what a reference says of the same persons: keypoints, maps and heads.

Drift needs no true keypoints: it compares two models, whoever is right. Shares and probabilities are numbers in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import InputError
from probpose_eval.annotations.coco import AnnotationSet, labelled_persons, sigmas_of
from probpose_eval.observations.observe import MapDrift, Observations

VISIBILITY_THRESHOLD = 0.5
"""From here on a keypoint is said to be visible, as `probpose_edge.draw_poses` shows it."""


@dataclass(frozen=True, kw_only=True)
class HeadDrift:
    """Shift of one probability, file minus reference; every number is None without keypoints.

    Attributes
    ----------
    mean: mean size of the shift. p95: size that 95 % of the shifts do not exceed.
    signed: mean of the shift itself, above 0 where the file is surer than the reference.
    flipped: share of decisions that differ; None for a head about which nothing is decided.
    """

    mean: float | None
    p95: float | None
    signed: float | None
    flipped: float | None = None


@dataclass(frozen=True, kw_only=True)
class KeypointDrift:
    """Drift over some keypoints; numbers are None where there are no keypoints, those of the maps also where maps
    cannot be compared.

    Attributes
    ----------
    keypoints: how many were compared. present: those of them that the reference says are present; only over these
        are places, maps, visibility and quality compared, because of an absent keypoint they say nothing.
    moved_px, moved_px_p95: distance between the two estimates, image pixels, mean and 95th percentile.
    moved_share, moved_share_p95: the same over the longer side of the true box.
    oks, oks_p05: the OKS of the one estimate if the other was the truth, mean, and what 95 % of them exceed.
    kl: mean divergence of the maps, nats. overlap: mean of their common mass. See `probpose_eval.MapDrift`.
    presence: over all keypoints, decided at the reference's threshold. visibility: decided at `VISIBILITY_THRESHOLD`.
    quality, expected_oks: the OKS that the network and the map expect.
    """

    keypoints: int
    present: int
    moved_px: float | None
    moved_px_p95: float | None
    moved_share: float | None
    moved_share_p95: float | None
    oks: float | None
    oks_p05: float | None
    kl: float | None
    overlap: float | None
    presence: HeadDrift
    visibility: HeadDrift
    quality: HeadDrift
    expected_oks: HeadDrift


@dataclass(frozen=True, kw_only=True)
class PictureDrift:
    """A picture, by its person with the least `agreement`.

    Attributes
    ----------
    image_id, annotation_id: the picture and the person.
    agreement: mean over the keypoints, as in Ex-OKS: the OKS between the two estimates of one that both models say is
        present, 1 for one that both say is absent, 0 where they differ.
    keypoint: the one that moved farthest of those that the reference says are present, and moved_px how far; None
        and 0 without one.
    presence_flipped: how many keypoints only one of the two says are present.
    """

    image_id: int
    annotation_id: int
    agreement: float
    keypoint: str | None
    moved_px: float
    presence_flipped: int


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Drift of one file from the reference on one set.

    Attributes
    ----------
    presence_threshold: the reference's, at which both are read.
    overall: over all keypoints of all persons. per_keypoint: by name.
    worst_keypoints: names, the least mean `oks` first. worst_pictures: the least agreement first, without pictures on
        which the two agree to the last digit.
    """

    presence_threshold: float
    overall: KeypointDrift
    per_keypoint: dict[str, KeypointDrift]
    worst_keypoints: tuple[str, ...]
    worst_pictures: tuple[PictureDrift, ...]


def measure_drift(
    annotations: AnnotationSet,
    reference: Observations,
    file: Observations,
    maps: MapDrift | None,
    *,
    worst: int = 6,
) -> Drift:
    """Compare what `observe_set` gave for a file, `maps` included, with what it gave for the reference.

    The set gives names, areas and sigmas of OKS, not the truth. worst: how many keypoints and pictures are named.

    Raises `InputError` for observations of other persons or keypoints, and for a negative number of worst ones.
    """
    persons = labelled_persons(annotations)
    ids = np.array([person.id for person in persons], dtype=np.int64)
    names = annotations.keypoint_names
    if not all(
        np.array_equal(each.annotation_ids, ids) and each.keypoints.shape[1:] == (len(names), 2)
        for each in (reference, file)
    ):
        raise InputError(
            f"Drift compares what two models said of the {len(ids)} labelled persons of the set with {len(names)} "
            f"keypoints, but the observations are of {' and '.join(map(_shape, (reference, file)))}, or of others. "
            "Observe the same set with both models."
        )
    if worst < 0:
        raise InputError(f"The number of worst ones must be at least 0, got {worst}. Use for example 6.")
    pairs = _Pairs(
        distance_px=np.linalg.norm(file.keypoints - reference.keypoints, axis=2),
        similarity=_similarity(annotations, reference, file),
        side_px=(reference.boxes_xyxy[:, 2:] - reference.boxes_xyxy[:, :2]).max(axis=1),
        said=reference.presence >= reference.presence_threshold,
        file_said=file.presence >= reference.presence_threshold,
    )
    everything = np.ones(pairs.said.shape, dtype=np.bool_)
    per_keypoint = {}
    for k, name in enumerate(names):
        chosen = np.zeros_like(everything)
        chosen[:, k] = True
        per_keypoint[name] = _drift(pairs, reference, file, maps, chosen)
    oks = [(drift.oks, name) for name, drift in per_keypoint.items() if drift.oks is not None]
    return Drift(
        presence_threshold=reference.presence_threshold,
        overall=_drift(pairs, reference, file, maps, everything),
        per_keypoint=per_keypoint,
        worst_keypoints=tuple(name for _, name in sorted(oks, key=lambda pair: pair[0])[:worst]),
        worst_pictures=_worst_pictures(pairs, reference, names, worst),
    )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pairs:
    """Two estimates of P persons with K keypoints: (P, K) each, `side_px` (P,)."""

    distance_px: NDArray[np.float64]
    similarity: NDArray[np.float64]
    side_px: NDArray[np.float64]
    said: NDArray[np.bool_]
    file_said: NDArray[np.bool_]


def _shape(observations: Observations) -> str:
    return "{} persons with {} keypoints".format(*observations.keypoints.shape)


def _similarity(annotations: AnnotationSet, reference: Observations, file: Observations) -> NDArray[np.float64]:
    """(P, K) OKS per keypoint between two estimates, with the annotated areas (COCO: ``exp(-d² / (2 s² (2 σ)²))``)."""
    areas = np.array([person.area for person in labelled_persons(annotations)]) + np.spacing(1)
    distance2 = ((file.keypoints - reference.keypoints) ** 2).sum(axis=2)
    variances = (2 * np.array(sigmas_of(annotations))) ** 2
    return np.asarray(np.exp(-distance2 / (2 * areas[:, None] * variances)))


def _drift(
    pairs: _Pairs,
    reference: Observations,
    file: Observations,
    maps: MapDrift | None,
    chosen: NDArray[np.bool_],
) -> KeypointDrift:
    some = chosen & pairs.said
    moved, oks = pairs.distance_px[some], pairs.similarity[some]
    share = (pairs.distance_px / pairs.side_px[:, None])[some]
    return KeypointDrift(
        keypoints=int(chosen.sum()),
        present=int(some.sum()),
        moved_px=_mean(moved),
        moved_px_p95=_percentile(moved, 95),
        moved_share=_mean(share),
        moved_share_p95=_percentile(share, 95),
        oks=_mean(oks),
        oks_p05=_percentile(oks, 5),
        kl=None if maps is None else _mean(maps.kl[some]),
        overlap=None if maps is None else _mean(maps.overlap[some]),
        presence=_head(reference.presence[chosen], file.presence[chosen], reference.presence_threshold),
        visibility=_head(reference.visibility[some], file.visibility[some], VISIBILITY_THRESHOLD),
        quality=_head(reference.quality[some], file.quality[some]),
        expected_oks=_head(reference.expected_oks[some], file.expected_oks[some]),
    )


def _head(reference: NDArray[np.float64], file: NDArray[np.float64], threshold: float | None = None) -> HeadDrift:
    shift = file - reference
    return HeadDrift(
        mean=_mean(np.abs(shift)),
        p95=_percentile(np.abs(shift), 95),
        signed=_mean(shift),
        flipped=None if threshold is None else _mean((reference >= threshold) != (file >= threshold)),
    )


def _worst_pictures(
    pairs: _Pairs, reference: Observations, names: tuple[str, ...], worst: int
) -> tuple[PictureDrift, ...]:
    both, alike = pairs.said & pairs.file_said, pairs.said == pairs.file_said
    agreement = np.where(both, pairs.similarity, alike).mean(axis=1)
    moved = np.where(pairs.said, pairs.distance_px, -1)
    pictures: dict[int, PictureDrift] = {}
    for row in np.argsort(agreement, kind="stable"):
        image_id = int(reference.image_ids[row])
        if agreement[row] == 1 or len(pictures) == worst:
            break
        if image_id in pictures:
            continue
        farthest, placed = int(moved[row].argmax()), bool(pairs.said[row].any())
        pictures[image_id] = PictureDrift(
            image_id=image_id,
            annotation_id=int(reference.annotation_ids[row]),
            agreement=float(agreement[row]),
            keypoint=names[farthest] if placed else None,
            moved_px=float(moved[row, farthest]) if placed else 0.0,
            presence_flipped=int((pairs.said[row] != pairs.file_said[row]).sum()),
        )
    return tuple(pictures.values())


def _mean(values: NDArray[np.float64] | NDArray[np.bool_]) -> float | None:
    return float(values.mean()) if values.size else None


def _percentile(values: NDArray[np.float64], q: float) -> float | None:
    return float(np.percentile(values, q)) if values.size else None
