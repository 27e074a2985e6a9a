"""How the command line names data sets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from probpose_edge.exceptions import InputError


def split_source(text: str) -> tuple[Path, Path]:
    """Annotation file and picture folder of ``annotations.json:images/``; raises `InputError` for another form."""
    annotations, separator, images = text.partition(":")
    if not (annotations and separator and images):
        raise InputError(f"A data set is written annotations.json:images/, got {text!r}. Name both parts.")
    return Path(annotations), Path(images)


@dataclass(frozen=True, kw_only=True)
class ScoreSource:
    """A set that scores are learned from.

    Attributes
    ----------
    annotations, images: COCO keypoint JSON and its folder of pictures.
    rounds: how often every labelled person is seen; 0.2 is one of five persons once.
    visibility_labelled: False if v = 0 says nothing, as where some keypoints are labelled of nobody: such a set teaches
        how far keypoints are off, and not which of them count.
    """

    annotations: Path
    images: Path
    rounds: float
    visibility_labelled: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.rounds < float("inf"):
            raise InputError(
                f"Scores are learned in more than 0 rounds over a set, got {self.rounds:g}. Take for example 10, or "
                "0.2 for one of five persons of a large set."
            )


def parse_score_source(text: str, rounds: float) -> ScoreSource:
    """``annotations.json:images/[:rounds[:no-visibility]]``; rounds: where the text names none.

    Raises `InputError` for another form and for rounds that are not above 0.
    """
    annotations, *rest = text.split(":")
    images, own, note, *more = [*rest, "", "", ""][: max(3, len(rest))]
    try:
        seen = float(own) if own else float(rounds)
    except ValueError:
        annotations, seen = "", 0.0
    if not (annotations and images) or note not in ("", "no-visibility") or more:
        raise InputError(
            "A set that scores are learned from is written annotations.json:images/[:rounds[:no-visibility]], got "
            f"{text!r}."
        )
    return ScoreSource(annotations=Path(annotations), images=Path(images), rounds=seen, visibility_labelled=note == "")
