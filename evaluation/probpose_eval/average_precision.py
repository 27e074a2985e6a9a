"""COCO's matching of results to persons, and average precision and recall from it.

The rules are those of the COCO evaluation (Lin et al. 2014): the 20 best results per image, matched greedily by score;
10 OKS thresholds from 0.5 to 0.95; precision interpolated at 101 recall points; persons that are crowds, unlabelled or
outside the area range are ignored, and so are the results matched to them and unmatched results outside the range.
Matching runs for all images, thresholds and area ranges at once, one step per rank of the result in its image.
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
"""(result indices (P,), person indices (P,)) -> OKS (P,)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Matches:
    """What became of N results in A area ranges at T thresholds; the results are sorted by falling score.

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
    *,
    result_images: NDArray[np.intp],
    result_scores: NDArray[np.float64],
    result_areas: NDArray[np.float64],
    person_images: NDArray[np.intp],
    person_areas: NDArray[np.float64],
    person_ignored: NDArray[np.bool_],
    person_crowd: NDArray[np.bool_],
    image_count: int,
    area_ranges: Sequence[tuple[float, float]],
    skip_ignored_images: bool = False,
) -> Matches:
    """Match results to persons.

    result_images, person_images: positions of the images, 0 to ``image_count - 1``. `skip_ignored_images` leaves out,
    per area range, images that have persons but only ignored ones: exococotools does so, COCO's evaluation does not.
    """
    ranges = np.asarray(area_ranges, dtype=np.float64)
    results = _ranked_table(result_images, -result_scores, image_count, MAX_RESULTS_PER_IMAGE)
    persons = _ranked_table(person_images, np.zeros(len(person_images)), image_count, None)
    outside = (person_areas < ranges[:, :1]) | (person_areas > ranges[:, 1:])
    ignored_person = person_ignored | outside
    result_outside = (result_areas < ranges[:, :1]) | (result_areas > ranges[:, 1:])
    shape = (len(ranges), len(OKS_THRESHOLDS), len(result_images))
    matched, ignored = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_)
    by_size = np.argsort((persons >= 0).sum(axis=1), kind="stable")
    by_size = by_size[(results[by_size] >= 0).any(axis=1)] if results.shape[1] else by_size[:0]
    for start in range(0, len(by_size), _IMAGES_AT_ONCE):
        rows = by_size[start : start + _IMAGES_AT_ONCE]
        _match_images(
            similarity,
            _trim(results[rows]),
            _trim(persons[rows]),
            ignored_person,
            person_crowd,
            result_outside,
            skip_ignored_images,
            matched,
            ignored,
        )
    kept = results[results >= 0]
    order = kept[np.argsort(-result_scores[kept], kind="stable")]
    positives = np.zeros((len(ranges), image_count), dtype=np.int64)
    for row, wanted in zip(positives, ~ignored_person, strict=True):
        np.add.at(row, person_images[wanted], 1)
    return Matches(
        image_index=result_images[order],
        matched=matched[:, :, order],
        ignored=ignored[:, :, order],
        positives=positives,
    )


def precision_and_recall(
    matches: Matches, area: int, image_weights: NDArray[np.integer] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """(T, 101) interpolated precision and (T,) recall of one area range; None if there is nobody to find.

    image_weights: (I,) how often each image counts, for resampling; each counts once without.
    """
    counted = ~matches.ignored[area]
    hits, misses = matches.matched[area] & counted, ~matches.matched[area] & counted
    if image_weights is None:
        positives = int(matches.positives[area].sum())
        found, wrong = np.cumsum(hits, axis=1, dtype=np.float64), np.cumsum(misses, axis=1, dtype=np.float64)
    else:
        positives = int(matches.positives[area] @ image_weights)
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


def _match_images(
    similarity: Similarity,
    results: NDArray[np.intp],
    persons: NDArray[np.intp],
    ignored_person: NDArray[np.bool_],
    crowd_person: NDArray[np.bool_],
    result_outside: NDArray[np.bool_],
    skip_ignored_images: bool,
    matched: NDArray[np.bool_],
    ignored: NDArray[np.bool_],
) -> None:
    """Fill the columns of `matched` and `ignored` (A, T, N) that belong to the tables (C, D) and (C, G)."""
    there = persons >= 0
    if persons.shape[1] == 0:
        columns = results[results >= 0]
        ignored[:, :, columns] = result_outside[:, None, columns]
        return
    pair = (results >= 0)[:, :, None] & there[:, None, :]
    values = np.full(pair.shape, -1.0)
    values[pair] = similarity(
        np.broadcast_to(results[:, :, None], pair.shape)[pair], np.broadcast_to(persons[:, None, :], pair.shape)[pair]
    )
    person_ignored = ignored_person[:, persons] | ~there  # (A, C, G)
    crowd = crowd_person[persons] & there
    skipped = np.asarray(there.any(axis=1) & person_ignored.all(axis=2)) & skip_ignored_images  # (A, C)
    # COCO walks the persons with those to be found first and takes the last of the best: a rank says the same.
    g = persons.shape[1]
    rank = np.argsort(np.argsort(values, axis=2, kind="stable"), axis=2).astype(np.int16)
    thresholds = np.minimum(OKS_THRESHOLDS, 1 - 1e-10)[:, None, None]
    free = np.ones((len(ignored_person), len(OKS_THRESHOLDS), *there.shape), dtype=np.bool_)
    first = (np.int16(g) * ~person_ignored).astype(np.int16)
    for d in range(results.shape[1]):
        good = values[:, d] >= thresholds  # (T, C, G)
        candidate = free & good
        key = np.where(candidate, (rank[:, d] + first)[:, None], np.int16(-1))
        pick = key.argmax(axis=3)
        hit = np.take_along_axis(candidate, pick[..., None], axis=3)[..., 0]
        a, t, c = np.nonzero(hit)
        chosen = pick[a, t, c]
        free[a, t, c, chosen] = crowd[c, chosen]
        real = results[:, d] >= 0
        columns = results[real, d]
        on_ignored = np.take_along_axis(np.broadcast_to(person_ignored[:, None], free.shape), pick[..., None], axis=3)[
            ..., 0
        ]
        unmatched_outside = ~hit & result_outside[:, None, results[:, d]]
        matched[:, :, columns] = hit[:, :, real]
        ignored[:, :, columns] = ((hit & on_ignored) | unmatched_outside | skipped[:, None])[:, :, real]
