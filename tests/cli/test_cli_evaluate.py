"""`evaluate`: several models, boxes of a detector, predictions of other tools, files that pycocotools reads."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from probpose_edge.weights import shipped_model

Cli = Callable[..., "Outcome"]  # noqa: F821 (defined in conftest)
NAME = "probpose-m-int8.onnx"
STANDARD = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")


@pytest.fixture(scope="module")
def detected(drawn_set: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The true boxes as a detector would write them: scores fall, one entry is of another category."""
    annotations = json.loads((drawn_set / "annotations.json").read_text())["annotations"]
    boxes: list[dict[str, Any]] = [
        {"image_id": a["image_id"], "category_id": 1, "bbox": a["bbox"], "score": round(0.9 - 0.05 * index, 2)}
        for index, a in enumerate(annotations)
    ]
    path = tmp_path_factory.mktemp("detected") / "boxes.json"
    path.write_text(json.dumps([*boxes, {**boxes[0], "category_id": 2, "score": 0.99}]))
    return path


def with_contract(path: Path, **changes: Any) -> Path:
    """The shipped ONNX file with other metadata."""
    model = onnx.load(shipped_model("onnx"))
    for entry in model.metadata_props:
        if entry.key == "probpose_edge":
            entry.value = json.dumps({**json.loads(entry.value), **changes})
    onnx.save(model, path)
    return path


def with_pycocotools(annotations: Path, results: Path) -> dict[str, float]:
    coco = pytest.importorskip("pycocotools.coco", reason="the oracle pycocotools is not installed")
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO(str(annotations))
        evaluation = cocoeval.COCOeval(truth, truth.loadRes(str(results)), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(STANDARD, evaluation.stats.tolist(), strict=True))


def set_of(folder: Path) -> tuple[object, ...]:
    return ("--annotations", folder / "annotations.json", "--images", folder / "images")


def test_result_files_are_read_by_pycocotools_and_give_the_printed_figures(
    cli: Cli, drawn_set: Path, detected: Path, tmp_path: Path
) -> None:
    for boxes in ((), ("--boxes", detected)):
        done = cli("evaluate", shipped_model("onnx"), *set_of(drawn_set), *boxes, "--out", tmp_path, "--json")
        assert done.code == 0
        rows = json.loads(done.out)
        assert rows == json.loads((tmp_path / "metrics.json").read_text())
        theirs = with_pycocotools(drawn_set / "annotations.json", tmp_path / f"{NAME}.json")
        ours = {name: -1.0 if rows[NAME][name] is None else rows[NAME][name] for name in STANDARD}
        assert ours == pytest.approx(theirs, abs=1e-9)
        assert 0 < ours["AP"] < 1


def test_detector_boxes_leave_out_what_needs_the_true_ones(cli: Cli, drawn_set: Path, detected: Path) -> None:
    true = json.loads(cli("evaluate", shipped_model("onnx"), *set_of(drawn_set), "--json").out)[NAME]
    done = cli("evaluate", shipped_model("onnx"), *set_of(drawn_set), "--boxes", detected, "--json")
    row = json.loads(done.out)[NAME]
    assert row["AR"] == pytest.approx(true["AR"], abs=0.01), "the same boxes, other scores"
    assert row["mean OKS"] is row["presence accuracy"] is None
    few = ("--min-box-score", 0.8, "--boxes-per-image", 1)
    shown = cli("evaluate", shipped_model("onnx"), *set_of(drawn_set), "--boxes", detected, *few).out
    entries = json.loads(detected.read_text())[:-1]
    pictures = {entry["image_id"] for entry in entries if entry["score"] >= 0.8}
    assert f"{len(pictures)} of {len(entries)} detected boxes; score = box score × pose score" in shown
    assert "–" in shown


def test_predictions_of_another_tool_stand_beside_models(cli: Cli, drawn_set: Path, tmp_path: Path) -> None:
    first = cli("evaluate", shipped_model("onnx"), *set_of(drawn_set), "--out", tmp_path, "--json")
    model = json.loads(first.out)[NAME]
    results = json.loads((tmp_path / f"{NAME}.json").read_text())
    other = tmp_path / "other.json"
    fields = ("image_id", "category_id", "keypoints", "score")
    other.write_text(json.dumps([{name: result[name] for name in fields} for result in results]))
    annotations = ("--annotations", drawn_set / "annotations.json")
    threshold = ("--presence-threshold", model["presence threshold"])
    alone = json.loads(cli("evaluate", *annotations, "--predictions", other, *threshold, "--json").out)["other.json"]
    assert alone["Ex-AP"] == pytest.approx(model["Ex-AP"])
    assert alone["mean OKS"] is None, "nobody says whose results these are"
    default = json.loads(cli("evaluate", *annotations, "--predictions", other, "--json").out)["other.json"]
    assert default["presence threshold"] == 0.5
    rows = json.loads(
        cli(
            "evaluate", shipped_model("onnx"), *set_of(drawn_set), "--predictions", other,
            "--predictions", tmp_path / f"{NAME}.json", *threshold, "--padding", 1.5, "--json",
        ).out
    )  # fmt: skip
    assert list(rows) == ["other.json", f"{NAME}.json", NAME]
    assert len({row["Ex-AP"] for row in rows.values()}) == 1, "one window and one threshold for all rows"
    assert rows[f"{NAME}.json"]["mean OKS"] == pytest.approx(model["mean OKS"])


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ([], "must hold results, but"),
        ([{"image_id": 999, "keypoints": [0.5] * 51, "score": 1}], "result 0 names the unknown image 999"),
        ([{"image_id": 1, "keypoints": [0.5] * 51, "score": float("nan")}], "result 0 has NaN or infinity"),
        ([{"image_id": 1, "keypoints": [0.5] * 42, "score": 1}], "must have 51 keypoint numbers"),
        ([{"image_id": 1, "keypoints": [2] * 51, "score": 1}], "must be a presence probability in [0, 1]"),
    ],
)
def test_bad_predictions_give_one_sentence(
    cli: Cli, drawn_set: Path, tmp_path: Path, document: list[Any], text: str
) -> None:
    (tmp_path / "p.json").write_text(json.dumps(document))
    done = cli("evaluate", "--annotations", drawn_set / "annotations.json", "--predictions", tmp_path / "p.json")
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert text in done.err


def test_a_set_without_labelled_persons_is_refused(cli: Cli, drawn_set: Path, tmp_path: Path) -> None:
    document = json.loads((drawn_set / "annotations.json").read_text())
    for annotation in document["annotations"]:
        annotation |= {"keypoints": [0] * 51, "num_keypoints": 0}
    (tmp_path / "a.json").write_text(json.dumps(document))
    done = cli(
        "evaluate", shipped_model("onnx"), "--annotations", tmp_path / "a.json", "--images", drawn_set / "images"
    )
    assert done.code == 2
    assert f"has none among its {len(document['annotations'])}: every figure would be undefined" in done.err


def test_models_of_other_skeletons_are_refused_before_anything_runs(cli: Cli, drawn_set: Path, tmp_path: Path) -> None:
    names = [f"point{k}" for k in range(17)]
    other = with_contract(tmp_path / "other.onnx", keypoint_names=names)
    done = cli("evaluate", shipped_model("onnx"), other, *set_of(drawn_set), "--out", tmp_path / "results")
    assert done.code == 2
    assert "but other.onnx has point0, point1" in done.err
    assert not (tmp_path / "results").exists()
    compared = cli("report", other, "--reference", shipped_model("onnx"), *set_of(drawn_set), "--out", tmp_path / "r")
    assert compared.code == 2
    assert "must have the keypoints of the set" in compared.err
    assert not (tmp_path / "r").exists()
    document = json.loads((drawn_set / "annotations.json").read_text())
    document["categories"][0].pop("sigmas", None)
    (tmp_path / "a.json").write_text(json.dumps(document))
    wider = with_contract(tmp_path / "wider.onnx", sigmas=[0.1] * 17)
    done = cli(
        "evaluate", shipped_model("onnx"), wider, "--annotations", tmp_path / "a.json", "--images", drawn_set / "images"
    )
    assert done.code == 2
    assert f"the set names none and {NAME}, wider.onnx have different ones. Add 'sigmas'" in done.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "needs something to evaluate, got neither a model nor --predictions"),
        (("a.onnx",), "Models need the pictures of the set, but --images is missing"),
        (("a.onnx", "b/a.onnx", "--images", "."), "needs files of different names"),
        (("a.onnx", "--images", ".", "--crop", "--boxes", "b.json"), "--crop makes other pictures, which --boxes"),
        (("a.onnx", "--images", ".", "--crop", "--predictions", "p.json"), "other pictures, which --predictions"),
        (("--predictions", "p.json", "--boxes", "b.json"), "--boxes are for models to estimate in, but none is given"),
        (("--crop",), "needs something to evaluate"),
    ],
)
def test_arguments_that_do_not_fit(cli: Cli, drawn_set: Path, arguments: tuple[str, ...], text: str) -> None:
    done = cli("evaluate", *arguments, "--annotations", drawn_set / "annotations.json")
    assert done.code == 2
    assert text in done.err
