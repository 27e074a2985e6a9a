"""Poses from two models: easy persons by the small one, those whom a router chooses by the large one."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.detectors.whole_image import estimate_in_image
from probpose_edge.estimator import PERSONS_AT_ONCE, MapChoice, PoseEstimator, boxes_of, windows_of
from probpose_edge.poses import Poses
from probpose_edge.probabilities.calibrated_maps import LOST_SHARE_KEY, TEMPERATURE_KEY, coverage_numbers
from probpose_edge.routing.check_members import check_members
from probpose_edge.routing.flip_test import flip_test
from probpose_edge.routing.resize_crops import resize_crops, resize_maps
from probpose_edge.routing.router import Router, Routes
from probpose_edge.routing.running_share import RunningShare
from probpose_edge.runtimes.base import closed_error, no_maps_error
from probpose_edge.window import box_to_window, crop_windows

Cut = Callable[[NDArray[np.intp], tuple[int, int]], NDArray[np.uint8]]
"""Indices of persons and an input size → their crops, (N, H_in, W_in, 3) uint8 RGB."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Routing:
    """Who answered for the N persons of one call, in its order.

    Attributes
    ----------
    large: (N,) bool, whether the pose is that of the large model.
    scores: (N,) float64, what the router said; NaN where it was not asked, at the shares 0 and 1, or failed.
    failures: what failed on the way, one sentence each; empty where everything ran.
    """

    large: NDArray[np.bool_]
    scores: NDArray[np.float64]
    failures: tuple[str, ...] = ()


class RoutedEstimator:
    """Two models behind one call: in place of a `PoseEstimator`, for images, trackers, live mode and evaluation.

    A router scores every person, the small model estimates most of them and the large one a `share`: those of whom
    their scores say that it removes the largest share of the error. The share is kept over all calls together, see
    `RunningShare`. A member may be a file of any format; the large one may be the small one with a `flip_test`.

    If the large model fails at run time, the small one answers for its persons, and the other way round; if the router
    fails, the small one answers for all. The failure is a `RuntimeWarning` and stands in `last_routing`; only where
    both models fail, the error is raised. Not safe to call from several threads at once.

    Parameters
    ----------
    router: an open `Router`, for crops of the size of either model, of the same window and skeleton.
    small, large: `PoseEstimator` of the same window and skeleton; they may differ in input size and cells.
    share: of the persons, in [0, 1], who go to the large model. 0 and 1 ask the router nothing.
    theta: where the share begins among the scores, see `route_sorted`; None is that of the router's contract.
    presence_threshold: of both models; None is that of the large one. Give both the same kind of scores
        (``calibrate --scores``): they stand beside each other in the result.

    Attributes
    ----------
    contract: that of the large model, less what only one of the two can do.
    last_routing: who answered in the last call; None before the first.
    """

    def __init__(
        self,
        router: Routes,
        small: PoseEstimator,
        large: PoseEstimator,
        *,
        share: float = 0.5,
        theta: float | None = None,
        presence_threshold: float | None = None,
    ) -> None:
        check_members(router, small, large)
        threshold = large.presence_threshold if presence_threshold is None else presence_threshold
        self._router = router
        self._small, self._large = (
            PoseEstimator(each.runtime, each.contract, presence_threshold=threshold) for each in (small, large)
        )
        choice = router.contract
        self._chosen = RunningShare(choice.score_quantiles, share=share, theta=choice.theta if theta is None else theta)
        self.contract = _shared_contract(small.contract, large.contract)
        self.presence_threshold = self._large.presence_threshold
        self.last_routing: Routing | None = None
        self._unsaid: list[str] = []
        self._closed = False

    @classmethod
    def open(
        cls,
        router: str | os.PathLike[str],
        small: str | os.PathLike[str],
        large: str | os.PathLike[str] | None = None,
        *,
        share: float = 0.5,
        threads: int | None = None,
        providers: Sequence[str | tuple[str, dict[str, Any]]] | None = None,
        presence_threshold: float | None = None,
    ) -> RoutedEstimator:
        """Open three files; large: None is the small model with a flip test. The rest is as in `PoseEstimator.open`."""
        first = PoseEstimator.open(small, threads=threads, providers=providers)
        second = flip_test(first) if large is None else PoseEstimator.open(large, threads=threads, providers=providers)
        choice = Router.open(router, threads=threads, providers=providers)
        return cls(choice, first, second, share=share, presence_threshold=presence_threshold)

    @property
    def share(self) -> float:
        """Of the persons who go to the large model."""
        return self._chosen.share

    def __call__(
        self, image_bgr: NDArray[Any], boxes_xyxy: ArrayLike | None = None, *, return_maps: MapChoice = False
    ) -> Poses:
        """Estimate one pose per box; as `PoseEstimator.__call__`.

        Without boxes the first look at the whole image is the small model's. Maps of the small model are resized to the
        cells of the large one.
        """
        self._check(return_maps)
        estimate = partial(self._of_image, return_maps=return_maps)
        poses = estimate_in_image(image_bgr, boxes_xyxy, estimate, first_look=partial(estimate, only_small=True))
        self._warn()
        return poses

    def predict_crops(
        self,
        crops: NDArray[np.uint8],
        windows: NDArray[np.floating],
        *,
        boxes_xyxy: NDArray[np.floating] | None = None,
        return_maps: MapChoice = False,
    ) -> Poses:
        """Estimate poses on crops of the large model's input size; as `PoseEstimator.predict_crops`.

        A small model of another input size sees them resized, a little worse than cut from the image.
        """
        self._check(return_maps)
        frames = windows_of(crops, windows, self.contract.input_wh)
        boxes = boxes_of(frames, boxes_xyxy)
        poses = self._route(lambda who, input_wh: resize_crops(crops[who], input_wh), frames, boxes, return_maps)
        self._warn()
        return poses

    def close(self) -> None:
        """Release all three; further calls are errors."""
        self._closed = True
        for member in (self._router, self._small, self._large):
            member.close()

    def __enter__(self) -> RoutedEstimator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _warn(self) -> None:
        """Say what failed since the last time, once each, as warnings of the line that called this estimator."""
        for failure in dict.fromkeys(self._unsaid):
            warnings.warn(failure, RuntimeWarning, stacklevel=3)
        self._unsaid = []

    def _check(self, return_maps: MapChoice) -> None:
        if self._closed:
            raise closed_error()
        if return_maps and self.contract.output_kind == "decoded":
            raise no_maps_error()
        if return_maps == "calibrated":
            coverage_numbers(self.contract)

    def _of_image(
        self, image: NDArray[np.uint8], boxes: NDArray[np.float64], return_maps: MapChoice, *, only_small: bool = False
    ) -> Poses:
        windows = box_to_window(boxes, self.contract.input_wh, self.contract.padding)

        def cut(who: NDArray[np.intp], input_wh: tuple[int, int]) -> NDArray[np.uint8]:
            return crop_windows(image, windows[who], input_wh)

        return self._route(cut, windows, boxes, return_maps, only_small=only_small)

    def _route(
        self,
        cut: Cut,
        windows: NDArray[np.float64],
        boxes: NDArray[np.float64],
        return_maps: MapChoice,
        *,
        only_small: bool = False,
    ) -> Poses:
        parts = [
            self._route_part(
                cut, np.arange(start, min(start + PERSONS_AT_ONCE, len(boxes))), windows, boxes, return_maps, only_small
            )
            for start in range(0, len(boxes), PERSONS_AT_ONCE)
        ]
        routings = [routing for _, routing in parts]
        self.last_routing = Routing(
            large=np.concatenate([np.zeros(0, dtype=np.bool_), *(each.large for each in routings)]),
            scores=np.concatenate([np.zeros(0), *(each.scores for each in routings)]),
            failures=tuple(dict.fromkeys(failure for each in routings for failure in each.failures)),
        )
        self._unsaid += self.last_routing.failures
        if parts:
            return Poses.concatenate([poses for poses, _ in parts])
        nothing = np.zeros((0, *self.contract.input_wh[::-1], 3), dtype=np.uint8)
        return self._large.predict_crops(nothing, np.zeros((0, 4)), return_maps=return_maps)

    def _route_part(
        self,
        cut: Cut,
        who: NDArray[np.intp],
        windows: NDArray[np.float64],
        boxes: NDArray[np.float64],
        return_maps: MapChoice,
        only_small: bool,
    ) -> tuple[Poses, Routing]:
        """Poses of the persons `who`, in their order, each by the model chosen or, if that fails, by the other one."""
        failures: list[str] = []
        crops = {} if only_small else self._router_crops(cut, who)
        chosen, scores = self._choose(crops.get(self._router.contract.input_wh), who, only_small, failures)

        def estimate(member: PoseEstimator, some: NDArray[np.intp]) -> Poses:
            input_wh = member.contract.input_wh
            cropped = crops[input_wh][some] if input_wh in crops else cut(who[some], input_wh)
            poses = member.predict_crops(
                cropped, windows[who[some]], boxes_xyxy=boxes[who[some]], return_maps=return_maps
            )
            cells = self.contract.heatmap_wh
            return poses if poses.maps is None else replace(poses, maps=resize_maps(poses.maps, cells))

        answers, order = [], []
        large = chosen.copy()
        for is_large in (False, True):
            some = np.flatnonzero(chosen == is_large)
            if some.size:
                poses, by_large = self._answer(partial(estimate, some=some), is_large, failures)
                large[some] = by_large
                answers.append(poses)
                order.append(some)
        poses = Poses.concatenate(answers).select(np.argsort(np.concatenate(order)))
        return poses, Routing(large=large, scores=scores, failures=tuple(failures))

    def _router_crops(self, cut: Cut, who: NDArray[np.intp]) -> dict[tuple[int, int], NDArray[np.uint8]]:
        """The crops that the router sees, by their size; none where it has nothing to choose."""
        if self.share in (0, 1):
            return {}
        input_wh = self._router.contract.input_wh
        return {input_wh: cut(who, input_wh)}

    def _choose(
        self, crops: NDArray[np.uint8] | None, who: NDArray[np.intp], only_small: bool, failures: list[str]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Who of N persons goes to the large model, and their scores, (N,) each."""
        chosen = np.full(len(who), self.share == 1 and not only_small)
        scores = np.full(len(who), np.nan)
        if crops is None:
            return chosen, scores
        try:
            scores = self._router(crops)
            return self._chosen(scores), scores
        except Exception as error:  # whatever a runtime raises: a device that runs goes on with the small model
            failures.append(_failed("router", error, "the small model answered for all"))
            return chosen, np.full(len(who), np.nan)

    def _answer(
        self, estimate: Callable[[PoseEstimator], Poses], is_large: bool, failures: list[str]
    ) -> tuple[Poses, bool]:
        """Poses by the small or the large model, and whether the large one made them; the other one if one fails."""
        members = (self._small, self._large)
        try:
            return estimate(members[is_large]), is_large
        except Exception as error:  # as above
            names = ("small model", "large model")
            failures.append(_failed(names[is_large], error, f"the {names[not is_large]} answered in its place"))
            try:
                return estimate(members[not is_large]), not is_large
            except Exception:
                raise error from None


def _failed(what: str, error: Exception, remedy: str) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    return f"The {what} of a RoutedEstimator must run, but it failed ({type(error).__name__}): {reason} Now {remedy}."


def _shared_contract(small: ModelContract, large: ModelContract) -> ModelContract:
    """That of the large model, less calibrated maps that the small one has not, and decoded if either is."""
    if small.output_kind == "decoded" and large.output_kind != "decoded":
        return large.replace(output_kind="decoded", scores={}, calibration={})
    if not {TEMPERATURE_KEY, LOST_SHARE_KEY} <= set(small.calibration):
        kept = {name: value for name, value in large.calibration.items() if name != LOST_SHARE_KEY}
        return large.replace(calibration=kept)
    return large
