"""What is measured of one model on one set, as plain numbers: the data that `score_observations` fills.

Every number is a float, and None where it has no cases: no keypoints of this kind, or only one of two classes. Shares,
probabilities and metrics lie in [0, 1]. Everything becomes JSON by ``dataclasses.asdict``.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """One bin of a reliability curve: the mean of what was said, the mean of what was true, and how many cases."""

    said: float
    true: float
    count: int


@dataclass(frozen=True, kw_only=True)
class BinaryScores:
    """What the probabilities of a yes-or-no question are worth.

    Attributes
    ----------
    positives, negatives: keypoints whose true answer is yes, and no.
    threshold: the answer is yes where the probability is at least this.
    accuracy: share of right answers. balanced_accuracy: mean of the shares among the positives and among the negatives.
    auroc: chance that a positive gets a larger probability than a negative, ties counted half.
    ece: expected calibration error, mean of |said - true share| over the cases, in 15 bins of equal width
        (Guo et al. 2017). brier: mean squared error of the probability.
    curve: the bins that are not empty, by rising probability; empty where it was left out.
    """

    positives: int
    negatives: int
    threshold: float
    accuracy: float | None
    balanced_accuracy: float | None
    auroc: float | None
    ece: float | None
    brier: float | None
    curve: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, kw_only=True)
class ConfidenceScores:
    """How well a confidence foretells the true OKS (Gu et al. 2024, "On the calibration of human pose estimation").

    Attributes
    ----------
    count: cases: keypoints, or persons.
    mean_said, mean_true: mean confidence and mean true OKS.
    pearson: their correlation; None where either does not vary.
    ause: area under the sparsification error curve: the mean error 1 - OKS of what is left, while the cases are taken
        away from the least confident on, minus the same in the order of the true errors; mean over all steps. 0 for a
        perfect order. Cases of equal confidence are taken in no order: each counts with the mean error of all of them.
    ause_constant: the same for a confidence that never varies, for comparison.
    ece, squared_error: as `BinaryScores.ece` and ``brier``, with the OKS in place of the answer.
    curve: see `BinaryScores`.
    """

    count: int
    mean_said: float | None
    mean_true: float | None
    pearson: float | None
    ause: float | None
    ause_constant: float | None
    ece: float | None
    squared_error: float | None
    curve: tuple[ReliabilityBin, ...]


@dataclass(frozen=True, kw_only=True)
class CoverageScores:
    """How many keypoints lie in the smallest region of their map that holds a share q of the mass.

    Attributes
    ----------
    count: keypoints. levels, shares: the q, and the share of the keypoints in their q-credible region.
    error: mean of |q - share| over the levels.
    """

    count: int
    levels: tuple[float, ...]
    shares: tuple[float, ...]
    error: float


@dataclass(frozen=True, kw_only=True)
class PrecisionScores:
    """AP and AR over thresholds 0.5 to 0.95 of OKS, and of Ex-OKS, where only the keypoints meant are counted."""

    ap: float | None
    ar: float | None
    ex_ap: float | None
    ex_ar: float | None


@dataclass(frozen=True, kw_only=True)
class PckRule:
    """How PCK was measured: a keypoint is correct within a share of a length of its person.

    Attributes
    ----------
    normalised_by: the length: ``"head"``, from the neck (or upper neck) to the top of the head, where the set labels
        both, or ``"box"``, the longer side of the true box. persons: persons who have that length.
    thresholds: the shares, as the keys of `SubsetScores.pck` name them.
    """

    normalised_by: str
    persons: int
    thresholds: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class SubsetScores:
    """Every metric over some of the keypoints: all, those of one name, or those in one of the areas A to E.

    Attributes
    ----------
    labelled: keypoints with v > 0 of labelled persons.
    precision: with scores as the model gives them; persons without such a keypoint are ignored.
    oks, ex_oks: mean over keypoints of the OKS (v = 1, 2) and of the Ex-OKS (v = 1, 2, 3).
    pck: threshold as text (``"0.1"``) → share of the keypoints with v = 1 and 2 within it, see `PckRule`.
    presence: is the keypoint in the activation window? visibility: of those in the window with v = 1 and 2, is it
        visible, that is v = 2 and not cut off by the border of the picture? Its threshold is 0.5.
    quality, expected_oks: both as confidences for the OKS of keypoints in the window with v = 1 and 2.
    coverage: of the calibrated maps, for the same keypoints; None without any, or for a model without such maps.
    """

    labelled: int
    precision: PrecisionScores
    oks: float | None
    ex_oks: float | None
    pck: dict[str, float | None]
    presence: BinaryScores
    visibility: BinaryScores
    quality: ConfidenceScores
    expected_oks: ConfidenceScores
    coverage: CoverageScores | None


@dataclass(frozen=True, kw_only=True)
class ScoreGap:
    """AP with the scores of the model, with one constant score, and with the true OKS (or Ex-OKS) as the score.

    `true_oks` - `as_said` is what a better score could bring, `as_said` - `constant` what the score brings (Gu et al.
    2024, table 1). Equal scores are ranked in the order of image ids and of the results, as in COCO's evaluation.
    """

    as_said: float | None
    constant: float | None
    true_oks: float | None


@dataclass(frozen=True, kw_only=True)
class ModelScores:
    """Everything that is measured of one model on one set, at one presence threshold.

    Attributes
    ----------
    persons, images: labelled persons, and pictures that have any.
    presence_threshold: of all extended metrics, instance scores and answers about presence.
    metrics: the named metrics of `evaluate`, standard and extended; None instead of its -1.
    mean_oks, mean_ex_oks: mean over persons. share_above_half: share of persons with an OKS above 0.5.
    whole: over all keypoints. keypoints: keypoint name → over those alone. areas: ``"A"`` … ``"E"`` → over the
        keypoints in that area of the paper's appendix A (see `areas_of_keypoints`).
    instances: the score of a person as a confidence for the person's OKS.
    score_gap, ex_score_gap: of AP and of Ex-AP.
    pck: how PCK was measured.
    """

    persons: int
    images: int
    presence_threshold: float
    metrics: dict[str, float | None]
    mean_oks: float | None
    mean_ex_oks: float | None
    share_above_half: float | None
    whole: SubsetScores
    keypoints: dict[str, SubsetScores]
    areas: dict[str, SubsetScores]
    instances: ConfidenceScores
    score_gap: ScoreGap
    ex_score_gap: ScoreGap
    pck: PckRule
