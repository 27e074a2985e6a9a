"""Which keypoints a run trains, and that they travel into its checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from probpose_edge import COCO_17, CROWDPOSE_14, MPII_16, Skeleton, write_skeleton
from probpose_edge.exceptions import AnnotationError, InputError
from probpose_eval.synth.set import write_synth_set
from probpose_models.checkpoint import load_checkpoint
from probpose_train.config import DataSource, TrainConfig
from probpose_train.prepare import prepare
from probpose_train.run_skeleton import skeleton_of_run
from probpose_train.sources import DrawnSet
from probpose_train.training_loop import train

CPU = torch.device("cpu")
QUIET = Console(quiet=True)
HANDS = Skeleton(
    keypoint_names=("nose", "left_wrist", "right_wrist"),
    edges=((0, 1), (0, 2)),
    flip_pairs=((1, 2),),
    sigmas=(0.03, 0.05, 0.05),
)
SYNTH = DataSource(annotations="synth")


@pytest.fixture(scope="module")
def mpii(tmp_path_factory: pytest.TempPathFactory) -> DataSource:
    folder = tmp_path_factory.mktemp("mpii") / "set"
    path = write_synth_set(folder, count=3, seed=1, width=160, height=160, persons=(1, 1), skeleton=MPII_16)
    return DataSource(annotations=str(path), images=str(folder / "images"))


def config_of(*sources: DataSource, **changes: object) -> TrainConfig:
    settings: dict[str, object] = {
        "sources": sources, "samples": 2, "samples_per_epoch": 2, "batch_size": 2, "device": "cpu", "bf16": "off",
        "input_wh": (96, 128),
    }  # fmt: skip
    return TrainConfig(**(settings | changes))  # type: ignore[arg-type]


def test_where_the_skeleton_comes_from(mpii: DataSource, tmp_path: Path) -> None:
    write_skeleton(tmp_path / "hands.json", HANDS)
    assert skeleton_of_run(config_of(SYNTH, mpii)) == MPII_16
    assert skeleton_of_run(config_of(SYNTH)) == COCO_17
    assert skeleton_of_run(config_of(mpii, skeleton="crowdpose-14")) == CROWDPOSE_14
    assert skeleton_of_run(config_of(mpii, skeleton=str(tmp_path / "hands.json"))) == HANDS
    with pytest.raises(InputError, match=r"A skeleton is coco-17, .* or a JSON file, but none\.json cannot be read"):
        skeleton_of_run(config_of(SYNTH, skeleton="none.json"))


def test_a_set_without_sigmas_needs_a_skeleton(mpii: DataSource, tmp_path: Path) -> None:
    document = json.loads(Path(mpii.annotations).read_text())
    category = document["categories"][0]
    names = [f"p{k}" for k in range(16)]
    document["categories"][0] = {"id": 1, "name": "person", "keypoints": names}
    (tmp_path / "a.json").write_text(json.dumps(document))
    source = DataSource(annotations=str(tmp_path / "a.json"), images=mpii.images)
    with pytest.raises(
        AnnotationError, match=r"OKS needs one sigma per keypoint, .* or give a skeleton file with them"
    ):
        skeleton_of_run(config_of(source))
    (tmp_path / "p.json").write_text(json.dumps({"keypoints": names, "sigmas": category["sigmas"]}))
    val = {"val_annotations": source.annotations, "val_images": source.images}
    prepared = prepare(config_of(source, skeleton=str(tmp_path / "p.json"), **val), CPU)
    assert prepared.contract.keypoint_names == tuple(names)
    assert prepared.contract.sigmas == MPII_16.sigmas
    assert prepared.validation["val"].annotations.sigmas == MPII_16.sigmas


def test_the_first_set_names_the_keypoints_of_the_checkpoint(mpii: DataSource, tmp_path: Path) -> None:
    best = train(config_of(mpii, SYNTH), tmp_path / "run", console=QUIET)
    model, contract = load_checkpoint(best)
    assert Skeleton.of(contract) == MPII_16
    assert model.keypoints == 16
    assert prepare(config_of(mpii, init_from=str(best)), CPU).contract.sigmas == MPII_16.sigmas
    body = prepare(config_of(SYNTH, init_from=str(best), skeleton="coco-17"), CPU)
    assert Skeleton.of(body.contract) == COCO_17
    assert body.fresh == ("5 of 17 keypoints",)  # nose, eyes and ears
    given, taken = model.map_head.final.bias, body.model.map_head.final.bias
    wrist = [names.index("left_wrist") for names in (MPII_16.keypoint_names, COCO_17.keypoint_names)]
    assert given[wrist[0]] == taken[wrist[1]]


def test_a_skeleton_file_with_drawn_people(tmp_path: Path) -> None:
    write_skeleton(tmp_path / "hands.json", HANDS)
    prepared = prepare(config_of(SYNTH, skeleton=str(tmp_path / "hands.json")), CPU)
    assert Skeleton.of(prepared.contract) == HANDS
    assert prepared.stream[0].presence.shape == (3,)


def test_sets_that_disagree(mpii: DataSource, tmp_path: Path) -> None:
    write_synth_set(tmp_path / "coco", count=2, width=160, height=160, persons=(1, 1))
    coco = DataSource(annotations=str(tmp_path / "coco" / "annotations.json"), images=str(tmp_path / "coco" / "images"))
    with pytest.raises(
        AnnotationError, match=r"must name the model's keypoints in the same order; .*nose.*right_ankle"
    ):
        prepare(config_of(mpii, coco), CPU)
    val = {"val_annotations": coco.annotations, "val_images": coco.images}
    with pytest.raises(AnnotationError, match=r"must have the keypoints of the set \(nose, .*, but has right_ankle"):
        prepare(config_of(mpii, **val), CPU)


def test_drawn_people_follow_the_keypoints() -> None:
    person = DrawnSet(HANDS.keypoint_names).sample(np.random.default_rng(0))
    assert person.keypoints.shape == (3, 3)
    with pytest.raises(InputError, match=r"Drawn people have the keypoints of COCO, .* but not tail"):
        DrawnSet(("tail",))
