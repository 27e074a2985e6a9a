"""The figures of a file on a set that limits can name, and what they say about which direction is better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from probpose_eval.metrics.model_scores import BinaryScores, ModelScores


@dataclass(frozen=True, kw_only=True)
class NamedFigure:
    """One figure.

    Attributes
    ----------
    read: the value of it in the scores of a model, None where it has no cases.
    points: whether people give and read it in points, hundredths of it, as AP. smaller_is_better: as of an error.
    """

    read: Callable[[ModelScores], float | None]
    points: bool = False
    smaller_is_better: bool = False

    @property
    def unit(self) -> float:
        """What one of the numbers that people give is worth."""
        return 0.01 if self.points else 1.0


def _metric(name: str) -> NamedFigure:
    return NamedFigure(read=lambda scores: scores.metrics.get(name), points=True)


def _binary(head: str) -> dict[str, NamedFigure]:
    def of(name: str) -> Callable[[ModelScores], float | None]:
        def read(scores: ModelScores) -> float | None:
            answers: BinaryScores = getattr(scores.whole, head)
            value: float | None = getattr(answers, name)
            return value

        return read

    return {
        f"{head}-accuracy": NamedFigure(read=of("accuracy")),
        f"{head}-balanced-accuracy": NamedFigure(read=of("balanced_accuracy")),
        f"{head}-auroc": NamedFigure(read=of("auroc")),
        f"{head}-ece": NamedFigure(read=of("ece"), smaller_is_better=True),
        f"{head}-brier": NamedFigure(read=of("brier"), smaller_is_better=True),
    }


NAMED_FIGURES: dict[str, NamedFigure] = {
    **{
        name: _metric(name)
        for prefix, levels in (("", (1, 2)), ("Ex-", (1, 2, 3)))
        for letters in ("AP", "AR")
        for name in (
            *(f"{prefix}{letters}{suffix}" for suffix in ("", "50", "75", "m", "l")),
            *(f"{prefix}{letters}-v{level}" for level in levels),
        )
    },
    "mean-OKS": NamedFigure(read=lambda scores: scores.mean_oks),
    "mean-Ex-OKS": NamedFigure(read=lambda scores: scores.mean_ex_oks),
    **_binary("presence"),
    **_binary("visibility"),
    "quality-pearson": NamedFigure(read=lambda scores: scores.whole.quality.pearson),
    "quality-ause": NamedFigure(read=lambda scores: scores.whole.quality.ause, smaller_is_better=True),
    "instance-pearson": NamedFigure(read=lambda scores: scores.instances.pearson),
    "coverage-error": NamedFigure(
        read=lambda scores: None if scores.whole.coverage is None else scores.whole.coverage.error,
        smaller_is_better=True,
    ),
}
"""Name → figure. Metrics of `evaluate` are in points, the others as they are."""
