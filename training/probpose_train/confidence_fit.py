"""Fit the confidence head of a frozen network: a few epochs over its features, seconds on one CPU core.

After Gu et al. 2024, "On the calibration of human pose estimation", section 5: squared error of the OKS of a keypoint
(equation 20) and cross-entropy of whether it counts (equation 21), Adam with a falling rate, the network frozen. The
squared error of the person's score is added, because persons are what is ranked.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from probpose_edge.exceptions import InputError
from probpose_eval.calibration.fit_score_head import ScoreFit, hold_out
from probpose_eval.calibration.score_samples import ScoreSamples
from probpose_eval.metrics.confidence_scores import confidence_scores
from probpose_models.confidence_head import ConfidenceHead, ConfidenceLayers

EPOCHS, BATCH, RATE, DECAY, DROPPED = 6, 128, 2e-3, 0.1, 0.2
LEAST_STEPS = 150
"""Small sets are gone through more often."""
_COUNTING = 0.3
"""Weight of the cross-entropy; both squared errors have 1."""
_LARGEST = 5.0
"""Standardised features are cut here while fitting, so that no single one steers."""


def fit_confidence_head(head: ConfidenceHead, samples: ScoreSamples, *, seed: int = 0) -> ScoreFit:
    """Fit the layers of `head` on samples whose features are its parts; it is changed.

    It is fitted on all pictures. What the scores are worth is measured on one of five pictures by a fit on the others.

    Raises as `hold_out`, and `InputError` for features that are not this head's.
    """
    widths, keypoints = head.layers.widths, head.layers.keypoint.shape[0]
    if samples.features.shape[1:] != (keypoints, sum(widths)) or not np.isfinite(samples.features).all():
        raise InputError(
            f"The features of a confidence head must be finite numbers of shape (M, {keypoints}, {sum(widths)}), got "
            f"{samples.features.shape}. Collect them from the network that the head belongs to."
        )
    held, pictures = hold_out(samples, np.random.default_rng(seed))
    tried = _fitted(head.layers, samples, ~held, seed)
    with torch.no_grad():
        answers = tried(_split(torch.from_numpy(samples.features[held].astype(np.float32)), widths)).sigmoid()
    said = _person_scores(answers, torch.ones(answers.shape[:2])).numpy().astype(np.float64)
    person_oks = samples.person_oks[held]
    head.layers.load_state_dict(_fitted(head.layers, samples, np.ones_like(held), seed).state_dict())
    return ScoreFit(
        head=None,
        before=confidence_scores(samples.scores[held], person_oks),
        held_out=confidence_scores(said, person_oks),
        epochs=_epochs(len(samples)),
        pictures=pictures,
    )


def _fitted(layers: ConfidenceLayers, samples: ScoreSamples, chosen: NDArray[np.bool_], seed: int) -> ConfidenceLayers:
    """A copy of the layers, fitted on the chosen samples, that takes the features as they come."""
    torch.manual_seed(seed)
    widths = layers.widths
    raw = samples.features[chosen].astype(np.float32)
    mean, std = raw.mean(axis=(0, 1)), raw.std(axis=(0, 1)) + np.float32(1e-5)
    x = torch.from_numpy(np.clip((raw - mean) / std, -_LARGEST, _LARGEST))
    counts = torch.from_numpy(np.isfinite(samples.oks[chosen]).astype(np.float32))
    tells = torch.from_numpy(samples.tells_counting[chosen].astype(np.float32)).unsqueeze(1)
    oks = torch.from_numpy(np.nan_to_num(samples.oks[chosen]).astype(np.float32))
    fitted = copy.deepcopy(layers).cpu()
    for module in fitted.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()
    nn.init.normal_(fitted.keypoint, std=0.1)
    optimizer = torch.optim.AdamW(fitted.parameters(), weight_decay=DECAY)
    batches = max(1, len(x) // BATCH)
    epochs = _epochs(len(x))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=epochs * batches, pct_start=0.1)
    for _ in range(epochs):
        for index in torch.randperm(len(x)).tensor_split(batches):
            loss = _loss(fitted(_split(F.dropout(x[index], DROPPED), widths)), oks[index], counts[index], tells[index])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        # W ((x - mean) / std) = (W / std) x - (W / std) mean
        for layer, part, middle in zip(
            fitted.inputs, _split(torch.from_numpy(std), widths), _split(torch.from_numpy(mean), widths), strict=True
        ):
            layer.weight.div_(part)
            fitted.keypoint.sub_(layer.weight @ middle)
    return fitted


def _epochs(samples: int) -> int:
    return max(EPOCHS, -(-LEAST_STEPS // max(1, samples // BATCH)))


def _loss(logits: Tensor, oks: Tensor, counts: Tensor, tells: Tensor) -> Tensor:
    """tells: (M, 1), 1 for samples that tell which keypoints do not count; of others only those that do are asked."""
    answers = logits.sigmoid()
    labelled = counts.sum(1)
    keypoints = (counts * (answers[..., 0] - oks) ** 2).sum(1) / labelled
    persons = (_person_scores(answers, torch.maximum(counts, tells)) - (counts * oks).sum(1) / labelled) ** 2
    counting = (F.binary_cross_entropy_with_logits(logits[..., 1], counts, reduction="none") * tells).mean()
    return keypoints.mean() + persons.mean() + _COUNTING * counting


def _person_scores(answers: Tensor, asked: Tensor) -> Tensor:
    weight = answers[..., 1] * asked
    return (answers[..., 0] * weight).sum(1) / weight.sum(1)


def _split(features: Tensor, widths: tuple[int, ...]) -> tuple[Tensor, ...]:
    return torch.split(features, list(widths), dim=-1)
