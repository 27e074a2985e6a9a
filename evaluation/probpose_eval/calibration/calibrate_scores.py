"""Put scores into the contract of a model, and what they were fitted on into its record."""

from __future__ import annotations

from typing import Any

from probpose_edge import ModelContract
from probpose_edge.exceptions import InputError
from probpose_edge.scores.score_head import SCORE_KINDS
from probpose_eval.calibration.fit_score_head import ScoreFit
from probpose_eval.calibration.picture_hashes import PICTURE_HASHES_KEY

MEAN_QUALITY, IN_NETWORK = "mean-quality", "ccnet"
CHOICES = (*SCORE_KINDS, MEAN_QUALITY)
_PREFIX = "scores_"


def check_choice(choice: str) -> None:
    """Raise `InputError` for scores that there are none of."""
    if choice not in CHOICES:
        raise InputError(f"The scores must be one of {', '.join(CHOICES)}, got {choice!r}.")


def with_scores(
    contract: ModelContract, choice: str, fit: ScoreFit | None = None, record: dict[str, Any] | None = None
) -> ModelContract:
    """The contract with other scores; a fit ("learned" and "ccnet" only) and a record of its data replace older ones.

    The pictures of the fit are added to those that the file was calibrated on. Raises `InputError` as `check_choice`,
    for a file that decodes its maps inside, and for "ccnet" without a fit in a file whose network has no such head.
    """
    check_choice(choice)
    if contract.output_kind == "decoded":
        raise InputError(
            f"Scores are made from maps, but this file of {contract.model} decodes them inside. Fit the scores of a "
            "file with maps."
        )
    kept = {name: value for name, value in contract.calibration.items() if not name.startswith(_PREFIX)}
    if fit is None:
        if choice == IN_NETWORK and not contract.confidence_head:
            raise InputError(
                f"Scores of the kind {IN_NETWORK} come from a head in the network, and that of this {contract.format} "
                f"file of {contract.model} has none. Fit one on its .safetensors checkpoint (--scores {IN_NETWORK}), "
                "then convert it."
            )
        if contract.confidence_head:
            # The head stays in the file, and so does what it was fitted on.
            kept = contract.calibration
        return contract.replace(scores={} if choice == MEAN_QUALITY else {"kind": choice}, calibration=kept)
    record = dict(record or {})
    hashes = f"{kept.get(PICTURE_HASHES_KEY, '')} {record.pop(PICTURE_HASHES_KEY, '')}".split()
    figures = {
        f"{name}{when}": getattr(scores, name)
        for when, scores in (("_before", fit.before), ("_held_out", fit.held_out))
        for name in ("pearson", "ause")
    }
    learned = {
        **record,
        **{name: "undefined" if value is None else round(value, 5) for name, value in figures.items()},
        "epochs": fit.epochs,
        "pictures": fit.pictures,
    }
    return contract.replace(
        scores={"kind": IN_NETWORK} if fit.head is None else fit.head.to_dict(),
        confidence_head=contract.confidence_head or fit.head is None,
        calibration={
            **kept,
            **({PICTURE_HASHES_KEY: " ".join(sorted(set(hashes)))} if hashes else {}),
            **{_PREFIX + name: value for name, value in learned.items()},
        },
    )
