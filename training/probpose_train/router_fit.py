"""Train a router: squared loss on collected samples (DynPose, CVPR 2025), minutes on one CPU core."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from probpose_edge.exceptions import TrainingError
from probpose_eval.metrics.confidence_scores import pearson, rank_correlation
from probpose_models.router import ProbPoseRouter
from probpose_train.router_samples import RouterSamples

HELD_OUT = 0.2
FEWEST_PICTURES = 10
EPOCHS, BATCH, RATE, DECAY = 12, 128, 4e-3, 0.05
_LIGHT = 0.25
"""Training sees every plane with another gain, up to this share more or less."""
QUANTILES = 101


@dataclass(frozen=True, kw_only=True, eq=False)
class RouterFit:
    """A trained router.

    Attributes
    ----------
    model: the weights of the best epoch, in eval mode. epochs: which one that was.
    quantiles: of its scores over all samples, `QUANTILES` evenly spaced levels from 0 to 1.
    figures: on the held-out pictures, by which the epoch was chosen: ``correlation`` (Pearson) and ``rank_correlation``
        (Spearman) of the score with the target, ``gain_correlation`` and ``gain_rank_correlation`` with the gain in OKS
        of the large member; ``mse`` of the score and ``mse_of_the_mean``, that of the best constant;
        ``gain_random_half`` and ``gain_routed_half``, the mean gain in OKS over all persons if half of them go to the
        large member, at random and by the score; and how many ``samples`` that were.
    """

    model: ProbPoseRouter
    epochs: int
    quantiles: tuple[float, ...]
    figures: dict[str, float]


def fit_router(
    samples: RouterSamples,
    input_wh: tuple[int, int],
    *,
    epochs: int = EPOCHS,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> RouterFit:
    """Fit on four of five pictures, keep the epoch with the least squared error on the fifth.

    input_wh: crop size of the router, one of those in ``samples.planes``. progress: called with (epochs done, in all).
    The same samples and seed give the same router on the same machine.

    Raises `TrainingError` for fewer than `FEWEST_PICTURES` pictures, for targets that are not finite or all the same,
    and if the loss becomes NaN.
    """
    pictures = np.unique(samples.pictures)
    targets = samples.targets
    _check(pictures, targets)
    rng = np.random.default_rng(seed)
    aside = rng.choice(pictures, max(2, int(HELD_OUT * len(pictures))), replace=False)
    held = np.isin(samples.pictures, aside)
    planes, wanted = samples.planes[input_wh], torch.from_numpy(targets.astype(np.float32))
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = ProbPoseRouter(input_wh)
        train = np.flatnonzero(~held)
        steps = epochs * (len(train) // BATCH + 1)
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps, pct_start=0.1)
        best, chosen, state = np.inf, 0, {}
        for epoch in range(epochs):
            rng.shuffle(train)
            model.train()
            for rows in np.array_split(train, len(train) // BATCH + 1):
                loss = (torch.sigmoid(model(_varied(planes[rows], rng))[:, 0]) - wanted[rows]).square().mean()
                if not torch.isfinite(loss):
                    raise TrainingError(
                        f"The loss of a router must stay finite, but it became NaN in epoch {epoch + 1}. Train with "
                        "another seed."
                    )
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                schedule.step()
            error = float(((router_scores(model, planes[held]) - targets[held]) ** 2).mean())
            if error < best:
                best, chosen = error, epoch + 1
                state = {name: value.clone() for name, value in model.state_dict().items()}
            if progress is not None:
                progress(epoch + 1, epochs)
    model.load_state_dict(state)
    scores = router_scores(model.eval(), planes)
    gain = samples.large_oks - samples.small_oks
    return RouterFit(
        model=model,
        epochs=chosen,
        quantiles=tuple(float(q) for q in np.quantile(scores, np.linspace(0, 1, QUANTILES)).clip(0, 1)),
        figures=_figures(scores[held], targets[held], gain[held]),
    )


@torch.no_grad()
def router_scores(model: ProbPoseRouter, planes: NDArray[np.uint8], *, batch: int = 256) -> NDArray[np.float64]:
    """(M,) float64 scores in (0, 1) of (M, H / 2, W / 2) uint8 planes; the network is left in eval mode."""
    model.eval()
    parts = [model(_tensor(planes[at : at + batch]))[:, 0].double() for at in range(0, len(planes), batch)]
    scores: NDArray[np.float64] = torch.sigmoid(torch.cat(parts)).numpy()
    return scores


def _check(pictures: NDArray[np.int64], targets: NDArray[np.float64]) -> None:
    if len(pictures) < FEWEST_PICTURES:
        raise TrainingError(
            f"A router needs at least {FEWEST_PICTURES} pictures, one of five is held out, got {len(pictures)}. Give a "
            "larger set."
        )
    if not np.isfinite(targets).all():
        raise TrainingError(
            f"The targets of a router must be finite, but {int((~np.isfinite(targets)).sum())} of {len(targets)} are "
            "NaN. Check both members with `probpose-edge doctor`, and collect the targets again."
        )
    if targets.min() == targets.max():
        raise TrainingError(
            f"There must be persons on whom the large member is better, and others, but every target is "
            f"{targets[0]:g}. Choose two members that differ."
        )


def _varied(planes: NDArray[np.uint8], rng: np.random.Generator) -> Tensor:
    """The planes as input, half of them mirrored, each in another light; black stays black, as beyond a picture."""
    values = planes.astype(np.float32)
    mirrored = rng.random(len(planes)) < 0.5
    values[mirrored] = values[mirrored][:, :, ::-1]
    values *= 1 + rng.uniform(-_LIGHT, _LIGHT, (len(planes), 1, 1)).astype(np.float32)
    return torch.from_numpy(values.clip(0, 255)).unsqueeze(1)


def _tensor(planes: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(planes.astype(np.float32)).unsqueeze(1)


def _figures(scores: NDArray[np.float64], targets: NDArray[np.float64], gain: NDArray[np.float64]) -> dict[str, float]:
    half = np.argsort(-scores, kind="stable")[: len(scores) // 2]
    figures = {
        "correlation": pearson(scores, targets),
        "rank_correlation": rank_correlation(scores, targets),
        "gain_correlation": pearson(scores, gain),
        "gain_rank_correlation": rank_correlation(scores, gain),
        "mse": float(((scores - targets) ** 2).mean()),
        "mse_of_the_mean": float(targets.var()),
        "gain_random_half": float(gain.mean() / 2),
        "gain_routed_half": float(gain[half].sum() / len(gain)),
        "samples": float(len(scores)),
    }
    # A correlation with something that does not vary is none.
    return {name: value for name, value in figures.items() if np.isfinite(value)}
