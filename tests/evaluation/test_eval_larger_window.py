"""Models with two maps are judged in their activation window, which is larger than the crop."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import probpose_eval
from probpose_cli.evaluate import _rule, figures
from probpose_edge import PoseEstimator, RawOutputs, cells_to_image
from probpose_eval import ReportConfig, ReportEntry, build_report, load_evaluation_set, read_annotations
from probpose_eval.annotations.windows import inside_windows, person_windows
from probpose_eval.evaluate import evaluate, mean_oks
from probpose_eval.metrics.oks import OksRule
from probpose_eval.metrics.presence import presence_accuracy
from probpose_eval.predict import predict_set

RATIO = 1.25
PERSON = {"image_id": 1, "category_id": 1, "bbox": [90, 60, 60, 80], "area": 2000, "iscrowd": 0}
"""Its input window is 75 × 100 around (120, 100), its activation window 93.75 × 125."""


class TwoMapRuntime:
    """Answers of another runtime, and an expert map that has the same cells."""

    name, provenance = "two maps", "measured"

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime

    def run(self, crops: NDArray[np.uint8]) -> RawOutputs:
        raw = self._runtime.run(crops)
        return dataclasses.replace(raw, expert_logits=raw.logits)

    def close(self) -> None:
        pass


@pytest.fixture
def double(template_estimator: Callable[..., PoseEstimator]) -> PoseEstimator:
    single = template_estimator(shift=-8)
    return PoseEstimator(TwoMapRuntime(single.runtime), single.contract.replace(window_ratio=RATIO))


@pytest.fixture
def photographed_once(photographed: tuple[Path, Path], double: PoseEstimator) -> tuple[Path, Path]:
    """One person in the first picture, whose second to ninth keypoints lie outside the crop, where the model says."""
    document = json.loads(photographed[0].read_text())
    document["images"] = document["images"][:1]
    k = np.arange(17)
    cells = np.stack([np.clip(2.0 + k, 0, 47), 12.0 + 2 * k], axis=1)[None]
    windows = person_windows(np.array([[90.0, 60, 150, 140]]), padding=1.25 * RATIO)
    points = cells_to_image(cells, windows, (48, 64))[0]
    values = np.column_stack([points, np.full(17, 2)])
    document["annotations"] = [{**PERSON, "id": 1, "num_keypoints": 17, "keypoints": values.reshape(-1).tolist()}]
    photographed[0].write_text(json.dumps(document))
    return photographed


def test_the_set_has_keypoints_between_the_two_windows(photographed_once: tuple[Path, Path]) -> None:
    (person,) = read_annotations(photographed_once[0]).persons
    box = person.bbox_xyxy[None]
    inside = [inside_windows(person.keypoints[None, :, :2], person_windows(box, padding=p))[0] for p in (1.25, 1.5625)]
    assert inside[1].all()
    assert 2 <= (~inside[0]).sum() <= 8


def test_predictions_reach_beyond_the_crop(photographed_once: tuple[Path, Path], double: PoseEstimator) -> None:
    annotations = read_annotations(photographed_once[0])
    (result,) = predict_set(double, annotations, photographed_once[1])
    found = np.reshape(result["keypoints"], (17, 3))[:, :2]
    truth = annotations.persons[0].keypoints[:, :2]
    outside = ~inside_windows(truth[None], person_windows(annotations.persons[0].bbox_xyxy[None]))[0]
    # Outside the crop the large map's own estimate stays; smoothing at its border moves it by less than half a cell.
    np.testing.assert_allclose(found[outside], truth[outside], atol=1)
    assert np.abs(found[~outside] - truth[~outside]).max() > 1


def test_ex_oks_and_presence_are_about_the_larger_window(
    photographed_once: tuple[Path, Path], double: PoseEstimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotations = read_annotations(photographed_once[0])
    results = predict_set(double, annotations, photographed_once[1])
    windows = []

    def noted(*arguments: Any, **settings: Any) -> dict[str, float]:
        windows.append(settings["padding"])
        return evaluate(*arguments, **settings)

    monkeypatch.setattr(probpose_eval, "evaluate", noted)
    scores = figures(annotations, results, _rule("paper", None, None, double.contract))
    assert windows == [1.5625, 1.5625]
    (presence,) = presence_accuracy(annotations, results, padding=1.5625)
    assert (presence.present, presence.absent) == (17, 0)
    assert scores["presence accuracy"] == presence.accuracy == 16 / 17
    rules = [OksRule(extended=True, padding=padding) for padding in (1.25, 1.5625)]
    smaller, larger = (mean_oks(annotations, results, rule=rule).mean for rule in rules)
    assert larger > smaller


def test_reports_say_which_window(photographed_once: tuple[Path, Path], double: PoseEstimator) -> None:
    data = load_evaluation_set(*photographed_once, name="one")
    report = build_report(
        [ReportEntry(label="double", estimator=double)],
        reference="double",
        plain=data,
        config=ReportConfig(bootstrap_samples=2, latency_rounds=0),
    )
    assert report.protocol.padding == 1.5625
    assert report.plain is not None
    assert report.plain.domain_shares["D"] == report.plain.domain_shares["E"] == 0
    scores = report.files[0].plain
    assert scores is not None
    presence = scores.scores.whole.presence
    assert (presence.positives, presence.negatives) == (17, 0)
