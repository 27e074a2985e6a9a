"""Choose who goes to the large model while scores come one after another: a share kept over a stream."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probpose_edge.routing.route_sorted import check_fraction, check_scores, first_place

WINDOW = 512
"""Scores that are remembered: those of the last persons."""
_PRIOR = 64
"""How many persons the quantiles of the router's contract stand for at the start."""
_STIFFNESS = 32.0
"""Persons beyond the share after which none more is sent, or everybody."""
_GOLDEN = (5**0.5 - 1) / 2


class RunningShare:
    """`probpose_edge.routing.route_sorted.route_sorted` for streams, with bounded memory; it remembers what came.

    A score is ranked among the last `WINDOW` ones, of which the quantiles of the contract are the first; persons whose
    rank lies in the range that the thresholds k1 and k2 of that window enclose go to the large model. Equal scores, as
    INT8 routers give them, share out the ranks between them. The persons sent too many or too few are counted, and the
    range is made narrower or wider by them: whatever comes, also scores that only rise, the number sent after n persons
    is ``n * share``, give or take 32 persons and those of one call.

    quantiles: Q at least 2 rising numbers at evenly spaced levels from 0 to 1, see `RouterContract.score_quantiles`.
    share, theta: in [0, 1], see `route_sorted`.

    Raises `InputError` for other arguments.
    """

    def __init__(self, quantiles: Sequence[float], *, share: float, theta: float = 1.0) -> None:
        self.share = check_fraction("share", share)
        self.theta = check_fraction("theta", theta)
        levels = np.linspace(0, 1, len(quantiles))
        self._scores = np.interp((np.arange(_PRIOR) + 0.5) / _PRIOR, levels, check_scores(quantiles))
        self._missing = 0.0
        self._seen = 0

    def __call__(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """(N,) bool: who of the N persons that came now goes to the large model; N may be 0."""
        values = check_scores(scores)
        n = len(values)
        self._scores = np.concatenate([self._scores, values])[-max(WINDOW, n) :]
        ordered = np.sort(self._scores)
        # A place in [0, 1) for everybody, spread evenly where scores are equal (the sequence of the golden section).
        spread = (np.arange(self._seen, self._seen + n) * _GOLDEN) % 1
        below, upto = (np.searchsorted(ordered, values, side=side) for side in ("left", "right"))
        rank = (below + spread * (upto - below)) / len(ordered)
        share = min(max(self.share + self._missing / _STIFFNESS, 0.0), 1.0)
        start = min(first_place(ordered, self.theta) / len(ordered), 1 - share)
        large = (rank >= start) & (rank < start + share)
        self._scores = self._scores[-WINDOW:]
        self._missing += self.share * n - int(large.sum())
        self._seen += n
        return np.asarray(large)
