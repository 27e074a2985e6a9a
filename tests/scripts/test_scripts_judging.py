"""What the scripts behind docs/results compute: figures, thresholds, commands, settings of the ablation."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from probpose_eval.evaluate import evaluate, mean_oks
from probpose_eval.synth.set import write_synth_set

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import ablation
    import compare_movenet
    import judging
    import movenet

    return {module.__name__: module for module in (ablation, compare_movenet, judging, movenet)}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "set"
    write_synth_set(folder, count=6, seed=2, width=200, height=200, persons=(1, 2))
    return folder


def noisy_estimates(scripts: dict[str, ModuleType], drawn: Path, label: str, folder: Path):  # type: ignore[no-untyped-def]
    """The noisy truth of a set, or of its cropped version; presence 0.9 where the keypoint is there, else 0.2."""
    judging = scripts["judging"]
    data = judging.read_sets(f"{drawn / 'annotations.json'}:{drawn / 'images'}", folder / "set")[label]
    rng = np.random.default_rng(0)
    truth = {tuple(p.bbox_xyxy): p.keypoints for p in data.annotations.persons}

    def model(picture: np.ndarray, box: np.ndarray) -> np.ndarray:
        assert picture.ndim == 3
        keypoints = truth[tuple(box)]
        there = np.isin(keypoints[:, 2], (1, 2))
        return np.column_stack((keypoints[:, :2] + rng.normal(0, 2, (len(keypoints), 2)), np.where(there, 0.9, 0.2)))

    return data, judging.estimate_with(model, data)


def test_figures_are_those_of_the_evaluation(scripts: dict[str, ModuleType], drawn: Path, tmp_path: Path) -> None:
    judging = scripts["judging"]
    data, estimates = noisy_estimates(scripts, drawn, "cropped", tmp_path)
    results = judging.as_results(estimates, 0.5, data.annotations.category_id)
    metrics = judging.intervals(judging.resampled_metrics(data, estimates, 0.5, samples=20))
    assert metrics["mean-OKS"]["value"] == pytest.approx(mean_oks(data.annotations, results).mean, abs=1e-5)
    assert metrics["AP"]["value"] == pytest.approx(evaluate(data.annotations, results)["AP"], abs=1e-5)
    extended = evaluate(data.annotations, results, extended=True)["Ex-AP"]
    assert metrics["Ex-AP"]["value"] == pytest.approx(extended, abs=1e-5)
    assert metrics["AP"]["low"] <= metrics["AP"]["value"] <= metrics["AP"]["high"]


def test_the_threshold_separates_what_the_confidence_separates(
    scripts: dict[str, ModuleType], drawn: Path, tmp_path: Path
) -> None:
    judging = scripts["judging"]
    data, estimates = noisy_estimates(scripts, drawn, "cropped", tmp_path)
    assert 0.2 < judging.best_threshold(data, estimates) <= 0.9
    found = judging.presence_figures(data, estimates, 0.5)
    assert found["balanced presence accuracy"] > 0.8
    assert judging.presence_figures(data, estimates, 0.95)["balanced presence accuracy"] == pytest.approx(0.5)


def test_the_score_is_the_mean_confidence_of_the_present_keypoints(scripts: dict[str, ModuleType]) -> None:
    judging = scripts["judging"]
    person = type("Person", (), {"image_id": 3, "id": 7})()
    values = np.array([[0.2, 0.6, 0.8]])
    estimates = judging.Estimates(persons=(person,), keypoints=np.zeros((1, 3, 2)), presence=values, quality=values)
    (result,) = judging.as_results(estimates, 0.5, 1)
    assert result["score"] == pytest.approx(0.7)
    assert (result["image_id"], result["annotation_id"]) == (3, 7)
    assert result["keypoints"][2::3] == [0.2, 0.6, 0.8]


def test_a_set_differs_from_itself_by_nothing(scripts: dict[str, ModuleType], drawn: Path, tmp_path: Path) -> None:
    judging = scripts["judging"]
    data, estimates = noisy_estimates(scripts, drawn, "plain", tmp_path)
    metrics = judging.resampled_metrics(data, estimates, 0.5, samples=20)
    for difference in judging.paired_differences(metrics, metrics).values():
        assert difference == {"value": 0, "low": 0, "high": 0}


@pytest.mark.parametrize("udp", [False, True])
def test_both_squares_of_movenet(scripts: dict[str, ModuleType], udp: bool) -> None:
    movenet = scripts["movenet"]
    corner, side = movenet.square_around(np.array([10.0, 20, 50, 100]))
    np.testing.assert_allclose(corner, (-20, 10))
    assert side == 100
    matrix = movenet.square_matrix(corner, side, 192, udp=udp)
    edges = np.array([[-20.0, 10, 1], [80, 110, 1]])
    if udp:  # pixel centers on the edges
        np.testing.assert_allclose(edges @ matrix.T, [[0, 0], [191, 191]], atol=1e-9)
    else:  # pixels tile the square: their outer edges lie half a pixel beyond the centers
        np.testing.assert_allclose((edges - (0.5, 0.5, 0)) @ matrix.T, [[-0.5, -0.5], [191.5, 191.5]], atol=1e-9)


def test_commands_name_no_folders_of_this_machine(scripts: dict[str, ModuleType]) -> None:
    arguments = ["model.onnx", "--val", "/home/me/val.json:/home/me/images:0.5:no-visibility", "--out", "docs/a b.json"]
    command = scripts["compare_movenet"].anonymous_command(arguments, "x.py")
    assert command == (
        "python scripts/x.py model.onnx --val DATA/val.json:DATA/images:0.5:no-visibility --out 'docs/a b.json'"
    )


def test_the_four_runs_differ_in_maps_and_crops_only(scripts: dict[str, ModuleType]) -> None:
    ablation = scripts["ablation"]
    sources = (ablation.parse_source("synth"),)
    configs = [ablation.variant_config(sources, m, c, "w.npz", 640, 11, 0) for m, c in ablation.VARIANTS]
    assert [(config.loss.kind, config.augment.crop > 0) for config in configs] == list(ablation.VARIANTS)
    alike = [
        dataclasses.replace(
            config,
            loss=dataclasses.replace(config.loss, kind="probability"),
            augment=dataclasses.replace(config.augment, crop=0.0),
        )
        for config in configs
    ]
    assert len({config.to_json() for config in alike}) == 1


@pytest.mark.slow
def test_the_ablation_trains_judges_and_does_not_train_again(
    scripts: dict[str, ModuleType], drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"{drawn / 'annotations.json'}:{drawn / 'images'}"
    out, runs = tmp_path / "out.json", tmp_path / "runs"
    arguments = ["--data", source, "--val", source, "--train", source, "--samples", "32"]
    monkeypatch.setattr(sys, "argv", ["ablation.py", *arguments, "--runs", str(runs), "--out", str(out)])
    scripts["ablation"].main()
    document = json.loads(out.read_text())
    assert [run["name"] for run in document["runs"]] == [
        "probability-crop", "probability-plain", "heatmap-crop", "heatmap-plain",
    ]  # fmt: skip
    assert document["samples"] == 32
    for run in document["runs"]:
        for label in ("plain", "cropped"):
            assert 0 <= run[label]["mean-OKS"]["value"] <= 1
    assert {d["what"] for d in document["differences"]} == {what for what, _, _ in scripts["ablation"].COMPARED}
    written = {path: path.stat().st_mtime_ns for path in runs.rglob("last.safetensors")}
    assert len(written) == 4
    scripts["ablation"].main()
    assert {path: path.stat().st_mtime_ns for path in runs.rglob("last.safetensors")} == written
    assert json.loads(out.read_text())["runs"] == document["runs"]


def test_means_over_cuts_draw_each_picture_with_all_of_them(
    scripts: dict[str, ModuleType], drawn: Path, tmp_path: Path
) -> None:
    judging = scripts["judging"]
    data, estimates = noisy_estimates(scripts, drawn, "cropped", tmp_path)
    alone = judging.resampled_metrics(data, estimates, 0.5)
    worse = dataclasses.replace(estimates, keypoints=estimates.keypoints + 4.0)
    moved = judging.resampled_metrics(data, worse, 0.5)
    both = judging.mean_metrics([data, data], [estimates, worse], 0.5)["mean-OKS"]
    assert both.value == pytest.approx((alone["mean-OKS"].value + moved["mean-OKS"].value) / 2)
    np.testing.assert_allclose(both.samples, (alone["mean-OKS"].samples + moved["mean-OKS"].samples) / 2)
    assert moved["mean-OKS"].value < alone["mean-OKS"].value
    figures = judging.mean_presence_figures([data, data], [estimates, estimates], 0.5)
    assert figures == judging.presence_figures(data, estimates, 0.5)


def test_cuts_of_other_pictures_have_no_common_mean(
    scripts: dict[str, ModuleType], drawn: Path, tmp_path: Path
) -> None:
    judging = scripts["judging"]
    data, estimates = noisy_estimates(scripts, drawn, "plain", tmp_path)
    images = dict(list(data.annotations.images.items())[:-1])
    fewer = dataclasses.replace(data, annotations=dataclasses.replace(data.annotations, images=images))
    with pytest.raises(ValueError, match="must show the same pictures"):
        judging.mean_metrics([data, fewer], [estimates, estimates], 0.5)
