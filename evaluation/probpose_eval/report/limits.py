"""Limits that a build sets: how low a figure may be, and how much worse than the reference's it may be."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from probpose_edge.exceptions import InputError
from probpose_eval.metrics.model_scores import ModelScores
from probpose_eval.report.figures_by_name import NAMED_FIGURES, NamedFigure

SETS = ("plain", "cropped")
FAIL_UNDER, MAX_DROP = "fail-under", "max-drop"


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One limit.

    Attributes
    ----------
    kind: ``"fail-under"``: the figure must be at least the amount. ``"max-drop"``: it may be worse than the
        reference's by at most the amount; an error is worse when it is larger.
    figure: a name of `NAMED_FIGURES`. amount: in points where the figure is (0.5 is half a point), else as it is.
    only_set: ``"plain"`` or ``"cropped"``; None is every set of the report.
    """

    kind: str
    figure: str
    amount: float
    only_set: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in (FAIL_UNDER, MAX_DROP) or self.only_set not in (None, *SETS):
            raise InputError(
                f"A limit is {FAIL_UNDER} or {MAX_DROP}, on the set {' or '.join(SETS)} or on every one (None), got "
                f"{self.kind!r} and {self.only_set!r}. Correct it."
            )
        if self.figure not in NAMED_FIGURES:
            close = difflib.get_close_matches(self.figure, NAMED_FIGURES, n=3)
            hint = f"Did you mean {' or '.join(close)}?" if close else f"Use one of {', '.join(NAMED_FIGURES)}."
            raise InputError(f"A limit must name a figure of the report, got {self.figure!r}. {hint}")
        least, largest = (0 if self.kind == MAX_DROP else -1), (100 if self.named.points else 1)
        if not (math.isfinite(self.amount) and least <= self.amount <= largest):
            what = "in points, hundredths of the whole," if self.named.points else "as a share of 1"
            raise InputError(
                f"A limit of {self.figure} is given {what} and at most {largest}, got {self.amount:g}. Use for example "
                f"{self.figure}={0.5 if self.named.points else 0.01}."
            )
        if self.kind == FAIL_UNDER and self.named.smaller_is_better:
            raise InputError(
                f"{self.figure} is better the smaller it is, so --fail-under cannot limit it. Limit how much it may "
                f"grow: --max-drop {self.figure}=0.01."
            )

    @property
    def named(self) -> NamedFigure:
        """The figure."""
        return NAMED_FIGURES[self.figure]

    def __str__(self) -> str:
        where = "" if self.only_set is None else f"{self.only_set}:"
        if self.kind == FAIL_UNDER:
            return f"{where}{self.figure} ≥ {self.amount:g}"
        verb = "rises" if self.named.smaller_is_better else "falls"
        unit = "" if not self.named.points else " point" if self.amount == 1 else " points"
        return f"{where}{self.figure} {verb} by at most {self.amount:g}{unit}"


@dataclass(frozen=True, kw_only=True)
class LimitResult:
    """One limit on one set for one file.

    Attributes
    ----------
    limit: the limit. set_name: ``"plain"`` or ``"cropped"``.
    kept: whether it is kept; None where the set has no cases for either model.
    value, reference: the figure of the file and of the reference, in the unit of the limit; None without cases.
    """

    limit: Limit
    set_name: str
    kept: bool | None
    value: float | None
    reference: float | None

    def __str__(self) -> str:
        figure = f"{self.limit.figure} on the {self.set_name} set"
        if self.value is None or (self.limit.kind == MAX_DROP and self.reference is None):
            return f"{figure} is not defined, so that its limit cannot be judged"
        decimals = 1 if self.limit.named.points else 3
        if self.limit.kind == FAIL_UNDER or self.reference is None:
            return f"{figure} is {self.value:.{decimals}f}, must be {self.limit.amount:g}"
        change = self.value - self.reference
        return (
            f"{figure} {self.reference:.{decimals}f} → {self.value:.{decimals}f} ({signed(change, decimals)}, allowed "
            f"{'+' if self.limit.named.smaller_is_better else MINUS}{self.limit.amount:g})"
        )


MINUS = "−"
"""What people read as minus."""


def signed(value: float, decimals: int) -> str:
    """A difference for people: ``+0.3``, ``−0.3``, and ``0.0`` without a sign."""
    text = f"{abs(value):.{decimals}f}"
    return text if float(text) == 0 else f"{MINUS if value < 0 else '+'}{text}"


def parse_limits(kind: str, texts: Iterable[str], *, plain_number: str | None = None) -> tuple[Limit, ...]:
    """Limits from texts as ``"Ex-AP=0.5,presence-ece=0.01"``; ``"cropped:Ex-AP=15"`` is for one set alone.

    plain_number: the figure that a number alone is about; None refuses it. Raises `InputError` for anything else, and
    for two limits of one kind on the same figure and set.
    """
    limits: list[Limit] = []
    for part in (part.strip() for text in texts for part in text.split(",")):
        name, equals, number = part.rpartition("=")
        if not equals and plain_number is not None:
            name = plain_number
        where, colon, figure = name.strip().rpartition(":")
        try:
            amount = float(number)
        except ValueError:
            amount = math.nan
        if math.isnan(amount) or not figure:
            example = "Ex-AP=60" if kind == FAIL_UNDER else "Ex-AP=0.5,presence-ece=0.01"
            raise InputError(f"--{kind} takes name=number with commas between, got {part!r}. Use {example}.")
        if colon and where not in SETS:
            raise InputError(
                f"A limit may name a set before a colon, {' or '.join(SETS)}, got {where!r}. Leave it out for all sets."
            )
        limits.append(Limit(kind=kind, figure=figure, amount=amount, only_set=where or None))
    keys = [(limit.figure, limit.only_set) for limit in limits]
    for key in keys:
        if keys.count(key) > 1:
            raise InputError(f"--{kind} names {key[0]} twice for the same set. Give one limit.")
    return tuple(limits)


def judge_limits(
    limits: Iterable[Limit], scores: Mapping[str, ModelScores], references: Mapping[str, ModelScores]
) -> tuple[LimitResult, ...]:
    """Every limit on every set (name → scores of the file, of the reference) that it is about.

    The values decide, not their intervals. A limit on a figure that no set defines is not kept: a build must not pass
    because nothing was measured.
    """
    results: list[LimitResult] = []
    for limit in limits:
        found = [
            _judge(limit, name, scores[name], references[name]) for name in scores if limit.only_set in (None, name)
        ]
        if all(result.kept is None for result in found):
            found = [dataclasses.replace(result, kept=False) for result in found]
        results.extend(found)
    return tuple(results)


def _judge(limit: Limit, set_name: str, scores: ModelScores, reference: ModelScores) -> LimitResult:
    value, base = (_in_unit(limit, each) for each in (scores, reference))
    kept: bool | None
    if value is None:
        kept = None if base is None else False
    elif limit.kind == FAIL_UNDER:
        kept = value >= limit.amount - _ROUNDING
    elif base is None:
        kept = None
    else:
        kept = (value - base if limit.named.smaller_is_better else base - value) <= limit.amount + _ROUNDING
    return LimitResult(limit=limit, set_name=set_name, kept=kept, value=value, reference=base)


_ROUNDING = 1e-9
"""Of floats: a loss of exactly the limit is allowed."""


def _in_unit(limit: Limit, scores: ModelScores) -> float | None:
    value = limit.named.read(scores)
    return None if value is None else value / limit.named.unit
