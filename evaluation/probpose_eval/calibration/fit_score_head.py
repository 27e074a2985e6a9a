"""Learn the scores of a frozen model: a small head, by gradient descent, stopped on pictures of its own.

After Gu et al. 2024, "On the calibration of human pose estimation", section 5: squared error of the keypoint's OKS and
cross-entropy of whether it counts, Adam for a few epochs, the network frozen. The squared error of the person's score
is added, because persons are what is ranked.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from probpose_edge.exceptions import InputError
from probpose_edge.scores.score_head import ScoreHead, run_layers, weighted_scores
from probpose_eval.calibration.score_samples import ScoreSamples
from probpose_eval.metrics.confidence_scores import confidence_scores
from probpose_eval.metrics.model_scores import ConfidenceScores

HIDDEN, EPOCHS, BATCH, RATE, DECAY = 16, 15, 64, 3e-3, 1e-3
HELD_OUT = 0.2
FEWEST_PICTURES = 5
_COUNTING = 0.3
"""Weight of the cross-entropy; both squared errors have 1."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoreFit:
    """A head (None of one that is part of the network), and scores on the held-out pictures: as the file gave them, and
    as the head does.

    The epoch was chosen on the held-out pictures, and they are disturbed like the others: how good the scores are
    elsewhere, only another set tells.
    """

    head: ScoreHead | None
    before: ConfidenceScores
    held_out: ConfidenceScores
    epochs: int
    pictures: int


def fit_score_head(samples: ScoreSamples, *, seed: int = 0) -> ScoreFit:
    """Fit on four of five pictures, keep the epoch that is best on the fifth.

    Raises `InputError` for fewer than `FEWEST_PICTURES` pictures.
    """
    rng = np.random.default_rng(seed)
    held, pictures = hold_out(samples, rng)
    f, k = samples.features.shape[2], samples.features.shape[1]
    rows = samples.features[~held].reshape(-1, f)
    head = ScoreHead(
        mean=rows.mean(axis=0),
        std=rows.std(axis=0) + 1e-6,
        hidden=rng.normal(0, f**-0.5, (f, HIDDEN)),
        keypoint=rng.normal(0, 0.1, (k, HIDDEN)),
        out=rng.normal(0, HIDDEN**-0.5, (HIDDEN, 2)),
        bias=np.zeros(2),
    )
    x = head.standardised(samples.features)
    truth = _Truth(samples)
    names = ("hidden", "keypoint", "out", "bias")
    weights = {name: getattr(head, name) for name in names}
    first, second = ({name: np.zeros_like(weights[name]) for name in names} for _ in range(2))
    train, steps = np.flatnonzero(~held), 0
    best, chosen, best_epoch = np.inf, weights, 0
    for epoch in range(EPOCHS):
        rng.shuffle(train)
        rate = RATE * (1 + np.cos(np.pi * epoch / EPOCHS)) / 2
        for start in range(0, len(train), BATCH):
            index = train[start : start + BATCH]
            slopes = _gradient(weights, x[index], truth, index)
            steps += 1
            # Adam (Kingma and Ba 2015) with its usual settings.
            for name in names:
                first[name] = 0.9 * first[name] + 0.1 * slopes[name]
                second[name] = 0.999 * second[name] + 0.001 * slopes[name] ** 2
                change = first[name] / (1 - 0.9**steps) / (np.sqrt(second[name] / (1 - 0.999**steps)) + 1e-8)
                weights = {**weights, name: weights[name] - rate * change}
        _, answers = run_layers(weights, x[held])
        error = _error(answers, truth, np.flatnonzero(held))
        if error < best:
            best, chosen, best_epoch = error, weights, epoch + 1
    fitted = ScoreHead(mean=head.mean, std=head.std, **chosen)
    said = weighted_scores(*fitted(samples.features[held])).astype(np.float64)
    return ScoreFit(
        head=fitted,
        before=confidence_scores(samples.scores[held], truth.person_oks[held]),
        held_out=confidence_scores(said, truth.person_oks[held]),
        epochs=best_epoch,
        pictures=pictures,
    )


def hold_out(samples: ScoreSamples, rng: np.random.Generator) -> tuple[NDArray[np.bool_], int]:
    """(M,) whether a sample is of a picture that is held out, one of five, and how many pictures there are.

    Raises `InputError` for fewer than `FEWEST_PICTURES` pictures.
    """
    pictures = np.unique(samples.pictures)
    if len(pictures) < FEWEST_PICTURES:
        raise InputError(
            f"Learning scores needs at least {FEWEST_PICTURES} pictures, one of five is held out, got {len(pictures)}. "
            "Give a larger set, or take the closed form, which needs none."
        )
    aside = rng.choice(pictures, max(1, int(HELD_OUT * len(pictures))), replace=False)
    return np.isin(samples.pictures, aside), len(pictures)


class _Truth:
    """What M samples should say.

    counts: (M, K) whether a keypoint counts. oks: (M, K), 0 where it does not. person_oks: (M,). asked: (M, K) whether
    the keypoint is part of the person's score. tells: (M, 1) whether the sample tells which keypoints do not count.
    """

    def __init__(self, samples: ScoreSamples) -> None:
        self.counts = np.isfinite(samples.oks)
        self.oks, self.person_oks = np.where(self.counts, samples.oks, 0), samples.person_oks
        self.tells = samples.tells_counting[:, None]
        self.asked = self.counts | self.tells


def _error(answers: NDArray[np.float64], truth: _Truth, rows: NDArray[np.intp]) -> float:
    """Squared errors of persons and of keypoints, the same share of each person."""
    counts, weight = truth.counts[rows], answers[..., 1] * truth.asked[rows]
    said = (answers[..., 0] * weight).sum(axis=1) / weight.sum(axis=1)
    keypoints = (counts * (answers[..., 0] - truth.oks[rows]) ** 2).sum(axis=1) / counts.sum(axis=1)
    return float(((said - truth.person_oks[rows]) ** 2).mean() + keypoints.mean())


def _gradient(
    weights: dict[str, NDArray[np.float64]], x: NDArray[np.float64], truth: _Truth, rows: NDArray[np.intp]
) -> dict[str, NDArray[np.float64]]:
    """Of `_error` plus `_COUNTING` times the cross-entropy, and of the decay of the matrices."""
    hidden, answers = run_layers(weights, x)
    counts, n = truth.counts[rows], len(rows)
    oks_said, counting = answers[..., 0], answers[..., 1]
    weight = counting * truth.asked[rows]
    total = weight.sum(axis=1, keepdims=True)
    score = (oks_said * weight).sum(axis=1, keepdims=True) / total
    miss = 2 * (score - truth.person_oks[rows, None]) / n
    to_oks = 2 * counts * (oks_said - truth.oks[rows]) / counts.sum(axis=1, keepdims=True) / n + miss * weight / total
    slope = np.empty_like(answers)
    slope[..., 0] = to_oks * oks_said * (1 - oks_said)
    slope[..., 1] = miss * (oks_said - score) / total * weight * (1 - counting)
    slope[..., 1] += _COUNTING * truth.tells[rows] * (counting - counts) / counts.size
    below = (slope @ weights["out"].T) * (1 - hidden**2)
    return {
        "hidden": np.tensordot(x, below, axes=([0, 1], [0, 1])) + DECAY * weights["hidden"],
        "keypoint": below.sum(axis=0),
        "out": np.tensordot(hidden, slope, axes=([0, 1], [0, 1])) + DECAY * weights["out"],
        "bias": slope.sum(axis=(0, 1)),
    }
