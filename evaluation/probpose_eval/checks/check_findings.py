"""What checks of data sets find."""

from __future__ import annotations

from dataclasses import dataclass, field

EXAMPLES = 5
"""Places that are named per kind of finding."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One kind of thing that is wrong, or noteworthy, and where.

    Attributes
    ----------
    kind: short name, such as ``"missing picture"``.
    broken: True if training or evaluation would fail or be wrong; else it is worth a look.
    count: how often it occurs. examples: the first few places, in words.
    """

    kind: str
    broken: bool
    count: int
    examples: tuple[str, ...]


@dataclass(kw_only=True)
class Findings:
    """Collects findings in the order in which their kinds first occur."""

    _places: dict[tuple[str, bool], list[str]] = field(default_factory=dict)
    _counts: dict[tuple[str, bool], int] = field(default_factory=dict)

    def broken(self, kind: str, place: str) -> None:
        """Note something that must be repaired."""
        self._add(kind, True, place)

    def remark(self, kind: str, place: str, count: int = 1) -> None:
        """Note something that may be meant, and how often it occurs at this place."""
        self._add(kind, False, place, count)

    def all(self) -> tuple[Finding, ...]:
        """What was noted, the broken first."""
        found = [
            Finding(kind=kind, broken=broken, count=self._counts[kind, broken], examples=tuple(places))
            for (kind, broken), places in self._places.items()
        ]
        return tuple(sorted(found, key=lambda finding: not finding.broken))

    def _add(self, kind: str, broken: bool, place: str, count: int = 1) -> None:
        places = self._places.setdefault((kind, broken), [])
        self._counts[kind, broken] = self._counts.get((kind, broken), 0) + count
        if len(places) < EXAMPLES:
            places.append(place)
