"""COCO's matching of results to persons, and average precision and recall from it.

The rules are those of the COCO evaluation (Lin et al. 2014): the 20 best results per image, matched greedily by score;
10 OKS thresholds from 0.5 to 0.95; precision interpolated at 101 recall points; persons that are crowds, unlabelled or
outside the area range are ignored, and so are the results matched to them and unmatched results outside the range.
Matching runs for many images and all thresholds and ranges at once, one step per rank of the result in its image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

OKS_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_POINTS = np.linspace(0.0, 1.0, 101)
MAX_RESULTS_PER_IMAGE = 20
AREA_RANGES: dict[str, tuple[float, float]] = {
    "all": (0.0, 1e5**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e5**2),
}
_IMAGES_AT_ONCE = 512
"""Bounds the memory of one matching step."""

Similarity = Callable[[NDArray[np.intp], NDArray[np.intp]], NDArray[np.float64]]
"""(person indices (P,), result indices (P,)) -> OKS (V, P), for V sets of counted keypoints."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Column:
    """One way to count: which set of keypoints (row of the similarity), which persons are ignored, and the area range.

    ignored: (G,) bool, persons that are nobody to find whatever their area. area_range: lowest and highest area, px².
    """

    view: int
    ignored: NDArray[np.bool_]
    area_range: tuple[float, float]


@dataclass(frozen=True, kw_only=True, eq=False)
class Matches:
    """What became of N results in A columns at T thresholds; the results are sorted by falling score.

    Attributes
    ----------
    image_index: (N,) position of the image of each result, 0 to I - 1.
    matched, ignored: (A, T, N) bool.
    positives: (A, I) number of persons to be found.
    """

    image_index: NDArray[np.intp]
    matched: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    positives: NDArray[np.int64]


def match(
    similarity: Similarity,
    columns: Sequence[Column],
    *,
    result_images: NDArray[np.intp],
    result_scores: NDArray[np.float64],
    result_areas: NDArray[np.float64],
    person_images: NDArray[np.intp],
    person_areas: NDArray[np.float64],
    person_crowd: NDArray[np.bool_],
    image_count: int,
    skip_ignored_images: bool = False,
) -> Matches:
    """Match N results to G persons in every column.

    result_images, person_images: positions of the images, 0 to ``image_count - 1``. `skip_ignored_images` leaves out,
    per column, images that have persons but only ignored ones: exococotools does so, COCO's evaluation does not.
    """
    low = np.array([[column.area_range[0]] for column in columns])
    high = np.array([[column.area_range[1]] for column in columns])
    outside = (person_areas < low) | (person_areas > high)
    task = _Task(
        similarity=similarity,
        views=np.array([column.view for column in columns], dtype=np.intp),
        person_ignored=np.stack([column.ignored for column in columns]) | outside,
        person_crowd=person_crowd,
        result_outside=(result_areas < low) | (result_areas > high),
        skip_ignored_images=skip_ignored_images,
    )
    results = _ranked_table(result_images, -result_scores, image_count, MAX_RESULTS_PER_IMAGE)
    persons = _ranked_table(person_images, np.zeros(len(person_images)), image_count, None)
    shape = (len(columns), len(OKS_THRESHOLDS), len(result_images))
    matched, ignored = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_)
    with_results = np.flatnonzero((results >= 0).any(axis=1))
    by_size = with_results[np.argsort((persons[with_results] >= 0).sum(axis=1), kind="stable")]
    for start in range(0, len(by_size), _IMAGES_AT_ONCE):
        rows = by_size[start : start + _IMAGES_AT_ONCE]
        _match_images(task, _trim(results[rows]), _trim(persons[rows]), matched, ignored)
    kept = results[results >= 0]
    order = kept[np.argsort(-result_scores[kept], kind="stable")]
    positives = np.stack([np.bincount(person_images[wanted], minlength=image_count) for wanted in ~task.person_ignored])
    return Matches(
        image_index=result_images[order],
        matched=matched[:, :, order],
        ignored=ignored[:, :, order],
        positives=positives,
    )


def precision_and_recall(
    matches: Matches, column: int, image_weights: NDArray[np.integer] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """(T, 101) interpolated precision and (T,) recall of one column; None if there is nobody to find.

    image_weights: (I,) how often each image counts, for resampling; each counts once without.
    """
    counted = ~matches.ignored[column]
    hits, misses = matches.matched[column] & counted, ~matches.matched[column] & counted
    if image_weights is None:
        positives = int(matches.positives[column].sum())
        found, wrong = np.cumsum(hits, axis=1, dtype=np.float64), np.cumsum(misses, axis=1, dtype=np.float64)
    else:
        positives = int(matches.positives[column] @ image_weights)
        weights = image_weights[matches.image_index]
        found = np.cumsum(hits * weights, axis=1, dtype=np.float64)
        wrong = np.cumsum(misses * weights, axis=1, dtype=np.float64)
    if positives == 0:
        return None
    thresholds, n = found.shape
    if n == 0:
        return np.zeros((thresholds, len(RECALL_POINTS))), np.zeros(thresholds)
    recall = found / positives
    precision = found / (found + wrong + np.spacing(1))
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    padded = np.concatenate([envelope, np.zeros((thresholds, 1))], axis=1)
    at = np.stack([np.searchsorted(row, RECALL_POINTS, side="left") for row in recall])
    return np.take_along_axis(padded, at, axis=1), recall[:, -1]


def _ranked_table(
    images: NDArray[np.intp], key: NDArray[np.float64], image_count: int, limit: int | None
) -> NDArray[np.intp]:
    """(I, M) indices of the items of each image by rising key (stable), filled up with -1."""
    order = np.lexsort((key, images))
    counts = np.bincount(images, minlength=image_count)
    starts = np.cumsum(counts) - counts
    rank = np.arange(len(images)) - starts[images[order]]
    width = int(counts.max(initial=0)) if limit is None else min(int(counts.max(initial=0)), limit)
    table = np.full((image_count, width), -1, dtype=np.intp)
    kept = rank < width
    table[images[order][kept], rank[kept]] = order[kept]
    return table


def _trim(table: NDArray[np.intp]) -> NDArray[np.intp]:
    return table[:, : int((table >= 0).sum(axis=1).max(initial=0))]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Task:
    """What `_match_images` needs to know of all images: (A,) views, (A, G) ignored persons, (A, N) results."""

    similarity: Similarity
    views: NDArray[np.intp]
    person_ignored: NDArray[np.bool_]
    person_crowd: NDArray[np.bool_]
    result_outside: NDArray[np.bool_]
    skip_ignored_images: bool


def _match_images(
    task: _Task,
    results: NDArray[np.intp],
    persons: NDArray[np.intp],
    matched: NDArray[np.bool_],
    ignored: NDArray[np.bool_],
) -> None:
    """Fill the columns of `matched` and `ignored` (A, T, N) that belong to the tables (C, D) and (C, G)."""
    there = persons >= 0
    c_count, g_count = there.shape
    if g_count == 0:
        found = results[results >= 0]
        ignored[:, :, found] = task.result_outside[:, None, found]
        return
    pair = (results >= 0)[:, :, None] & there[:, None, :]
    image, d_index, g_index = np.nonzero(pair)
    similarity = task.similarity(persons[image, g_index], results[image, d_index])
    values = np.full((len(similarity), *pair.shape), -1.0)
    values[:, pair] = similarity
    # COCO walks the persons with those to be found first and takes the last of the best: a rank says the same.
    rank = np.argsort(np.argsort(values, axis=3, kind="stable"), axis=3).astype(np.int16)
    values, rank = values[task.views], rank[task.views]  # (A, C, D, G)
    person_ignored = task.person_ignored[:, persons] | ~there  # (A, C, G)
    first = (g_count * ~person_ignored).astype(np.int16)
    crowd = task.person_crowd[persons] & there
    skipped = np.asarray(there.any(axis=1) & person_ignored.all(axis=2)) & task.skip_ignored_images  # (A, C)
    thresholds = np.minimum(OKS_THRESHOLDS, 1 - 1e-10)[:, None, None]
    free = np.ones((len(task.views), len(thresholds), c_count, g_count), dtype=np.bool_)
    for d in range(results.shape[1]):
        candidate = free & (values[:, None, :, d] >= thresholds)
        a, t, c = np.nonzero(candidate.any(axis=3))
        key = np.where(candidate[a, t, c], (rank[:, :, d] + first)[a, c], np.int16(-1))
        chosen = key.argmax(axis=1)
        free[a, t, c, chosen] = crowd[c, chosen]
        hit = np.zeros(free.shape[:3], dtype=np.bool_)
        hit[a, t, c] = True
        left_out = ~hit & (task.result_outside[:, results[:, d]] | skipped)[:, None]
        left_out[a, t, c] = person_ignored[a, c, chosen]
        real = results[:, d] >= 0
        matched[:, :, results[real, d]] = hit[:, :, real]
        ignored[:, :, results[real, d]] = left_out[:, :, real]
