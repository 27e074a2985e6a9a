"""Scores from the metadata of a file: written, read, refused where they cannot be used, and applied."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from probpose_edge import ModelContract, PoseEstimator, RawOutputs
from probpose_edge.exceptions import MetadataError, ModelFileError
from probpose_edge.scores.score_features import FEATURES
from probpose_edge.scores.score_head import ScoreHead, read_score_head, weighted_scores
from probpose_edge.scores.score_poses import features_of

N, K = 3, 5
WINDOWS = np.array([[50.0, 60.0, 48.0, 64.0]] * N) * np.array([[1.0], [2.0], [3.0]])


class Answers:
    """A runtime with random answers, the same for every call."""

    name, provenance = "answers", "simulated"

    def __init__(self, heatmap: bool = False) -> None:
        rng = np.random.default_rng(0)
        self.raw = RawOutputs(
            logits=rng.normal(0, 1, (N, K, 16, 12)).astype(np.float32),
            **{} if heatmap else {n: rng.random((N, K)).astype("f4") for n in ("presence", "visibility", "quality")},
        )

    def run(self, crops: Any) -> RawOutputs:
        return self.raw

    def close(self) -> None:
        pass


@pytest.fixture
def head() -> ScoreHead:
    rng, f = np.random.default_rng(1), len(FEATURES)
    return ScoreHead(
        mean=rng.normal(0, 1, f),
        std=rng.uniform(0.5, 2, f),
        hidden=rng.normal(0, 1, (f, 3)),
        keypoint=rng.normal(0, 1, (K, 3)),
        out=rng.normal(0, 1, (3, 2)),
        bias=rng.normal(0, 1, 2),
    )


def poses_of(contract: ModelContract, heatmap: bool = False) -> tuple[Any, RawOutputs]:
    runtime = Answers(heatmap)
    return PoseEstimator(runtime, contract).decode_outputs(runtime.raw, WINDOWS), runtime.raw


def test_a_head_survives_its_file(contract: ModelContract, head: ScoreHead) -> None:
    stored = ModelContract.from_json(contract.replace(scores=head.to_dict()).to_json())
    read = read_score_head(stored.scores, K)
    features = np.random.default_rng(2).normal(0, 1, (N, K, len(FEATURES)))
    for before, after in zip(head(features), read(features), strict=True):
        np.testing.assert_allclose(after, before, atol=1e-5)


def test_files_without_scores_keep_theirs(contract: ModelContract) -> None:
    document = json.loads(contract.to_json())
    del document["scores"]
    read = ModelContract.from_json(json.dumps(document))
    assert read.scores == {}
    poses, _ = poses_of(read)
    mean = [poses.quality[n][poses.present[n]].mean() if poses.present[n].any() else 0 for n in range(N)]
    np.testing.assert_allclose(poses.scores, mean, rtol=1e-6)


def test_the_closed_form_weighs_the_promise_with_the_visibility(contract: ModelContract) -> None:
    changed = contract.replace(scores={"kind": "closed-form"})
    poses, raw = poses_of(changed)
    promised = features_of(poses, raw.logits, changed)[..., FEATURES.index("promised_oks")]
    expected = (promised * poses.visibility).sum(axis=1) / poses.visibility.sum(axis=1)
    np.testing.assert_allclose(poses.scores, expected, rtol=1e-5)
    plain, _ = poses_of(contract)
    for name in ("keypoints", "presence", "quality", "expected_oks"):
        np.testing.assert_array_equal(getattr(poses, name), getattr(plain, name))


def test_a_learned_head_is_applied_at_any_threshold(contract: ModelContract, head: ScoreHead) -> None:
    changed = contract.replace(scores=head.to_dict())
    poses, raw = poses_of(changed)
    expected = weighted_scores(*read_score_head(changed.scores, K)(features_of(poses, raw.logits, changed)))
    np.testing.assert_array_equal(poses.scores, expected)
    np.testing.assert_array_equal(poses_of(changed.replace(presence_threshold=0.99))[0].scores, expected)


def test_heatmap_models_have_scores_too(contract: ModelContract, head: ScoreHead) -> None:
    for scores in ({"kind": "closed-form"}, head.to_dict()):
        changed = contract.replace(map_kind="heatmap", decode_kernel="argmax", scores=scores)
        poses, _ = poses_of(changed, heatmap=True)
        assert np.isfinite(poses.scores).all()
        assert ((poses.scores > 0) & (poses.scores <= 1)).all()


def test_extreme_answers_give_finite_features(contract: ModelContract) -> None:
    runtime = Answers()
    for value in (0.0, 1.0):
        scalars = {name: np.full((N, K), value, dtype=np.float32) for name in ("presence", "visibility", "quality")}
        raw = RawOutputs(logits=np.full_like(runtime.raw.logits, 50 * value), **scalars)
        poses = PoseEstimator(runtime, contract).decode_outputs(raw, WINDOWS)
        assert np.isfinite(features_of(poses, raw.logits, contract)).all()
        closed = PoseEstimator(runtime, contract.replace(scores={"kind": "closed-form"})).decode_outputs(raw, WINDOWS)
        assert np.isfinite(closed.scores).all()


def test_nobody_has_no_scores(contract: ModelContract, head: ScoreHead) -> None:
    raw = RawOutputs(**{name: values[:0] for name, values in Answers().raw.named().items()})
    estimator = PoseEstimator(Answers(), contract.replace(scores=head.to_dict()))
    assert estimator.decode_outputs(raw, WINDOWS[:0]).scores.shape == (0,)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda s: s.update(kind="magic"),
            r"must be of one of the kinds closed-form, learned, ccnet, got 'magic'.*calibrate --scores",
        ),
        (lambda s: s.update(features=["presence"]), r"must read the features presence, .*got \['presence'\]"),
        (lambda s: s.pop("out"), r"finite numbers for every feature and keypoint, got KeyError: 'out'"),
        (lambda s: s["bias"].append(1.0), r"bias of shape \(3,\) in place of \(2,\)"),
        (lambda s: s["mean"].__setitem__(0, float("nan")), r"mean .*not finite"),
        (lambda s: s["std"].__setitem__(0, 0.0), r"a standard deviation that is not positive"),
        (lambda s: s["keypoint"].pop(), r"keypoint of shape \(4, 3\) in place of \(5, 3\)"),
    ],
)
def test_scores_that_cannot_be_used_are_refused(
    contract: ModelContract, head: ScoreHead, change: Callable[[dict[str, Any]], Any], text: str
) -> None:
    scores = head.to_dict()
    change(scores)
    with pytest.raises(MetadataError, match=text):
        PoseEstimator(Answers(), contract.replace(scores=scores))


def test_a_file_that_decodes_inside_has_no_scores(contract: ModelContract) -> None:
    with pytest.raises(MetadataError, match="decodes its maps inside must have an empty metadata field 'scores'"):
        contract.replace(output_kind="decoded", scores={"kind": "closed-form"})


def test_a_head_in_the_network_says_how_far_to_trust_a_pose(contract: ModelContract) -> None:
    raw = Answers().raw
    said = np.random.default_rng(0).uniform(0.1, 0.9, (*raw.quality.shape, 2)).astype(np.float32)
    raw = dataclasses.replace(raw, confidence=said)
    with_head = contract.replace(confidence_head=True, scores={"kind": "ccnet"})
    assert with_head.output_names == (*contract.output_names, "confidence")
    found = PoseEstimator(Answers(), with_head).decode_outputs(raw, WINDOWS)
    wanted = (said[..., 0] * said[..., 1]).sum(axis=1) / said[..., 1].sum(axis=1)
    np.testing.assert_allclose(found.scores, wanted, rtol=1e-6)
    plain = PoseEstimator(Answers(), contract.replace(confidence_head=True)).decode_outputs(raw, WINDOWS)
    np.testing.assert_array_equal(plain.keypoints, found.keypoints)
    with pytest.raises(ModelFileError, match=r"must have the outputs .*confidence, but it gives"):
        PoseEstimator(Answers(), with_head).decode_outputs(Answers().raw, WINDOWS)
    wrong = dataclasses.replace(raw, confidence=said[..., :1])
    with pytest.raises(ModelFileError, match=r"output 'confidence' must have shape \(\d+, 5, 2\)"):
        PoseEstimator(Answers(), with_head).decode_outputs(wrong, WINDOWS)


def test_scores_of_a_head_need_one(contract: ModelContract) -> None:
    with pytest.raises(MetadataError, match="come from a confidence head in the network, and this file has none"):
        PoseEstimator(Answers(), contract.replace(scores={"kind": "ccnet"}))
    with pytest.raises(MetadataError, match="'confidence_head' must be true or false, and false for a file that decod"):
        contract.replace(output_kind="decoded", confidence_head=True)
