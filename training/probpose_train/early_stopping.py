"""Which report of a run is the best, and when to stop waiting for a better one."""

from __future__ import annotations

import math
from dataclasses import dataclass

from probpose_train.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The best report so far.

    score: value of the chosen metric, then the mean OKS, which decides between equals (early on every AP is 0).
    waited: reports since then.
    """

    score: tuple[float, float] = (-math.inf, -math.inf)
    waited: int = 0


def judge(progress: Progress, row: dict[str, float | int], config: TrainConfig) -> Progress:
    """Progress after a report; without a validation set every report is the best."""
    if "val_mean_oks" not in row:
        return Progress(score=(float(row["step"]), 0.0))
    mean = float(row["val_mean_oks"])
    score = (float(row["val_Ex-AP"]) if config.select_by == "Ex-AP" else mean, mean)
    if score > progress.score:
        return Progress(score=score)
    return Progress(score=progress.score, waited=progress.waited + 1)


def should_stop(progress: Progress, config: TrainConfig) -> bool:
    """Whether patience has run out."""
    return 0 < config.patience <= progress.waited
