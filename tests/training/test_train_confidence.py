"""Fit a confidence head: it learns, its layers take features as they come, and it refuses others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from probpose_edge.exceptions import InputError
from probpose_eval.calibration.score_samples import ScoreSamples
from probpose_models import (
    ProbPoseM,
    ProbPoseS,
    TorchRuntime,
    checkpoint_contract,
    load_checkpoint,
    save_checkpoint,
)
from probpose_models.confidence_head import ConfidenceHead, add_confidence_head, without_confidence_head
from probpose_train.confidence_fit import fit_confidence_head
from probpose_train.confidence_samples import PartsNetwork, PartsRuntime

K = 5


def head() -> ConfidenceHead:
    return ConfidenceHead(4, K, (8, 6), scalars=1, sharpness=2.0)


def samples(persons: int = 600, pictures: int = 60, features: int = 9) -> ScoreSamples:
    """The OKS of a keypoint follows from one feature, whether it counts from another; both in odd units."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (persons, K, features))
    oks = 1 / (1 + np.exp(-2 * x[..., 0]))
    counts = x[..., -1] > -1
    counts[:, 0] = True
    return ScoreSamples(
        features=x * 100 + 1000,
        oks=np.where(counts, oks, np.nan),
        scores=rng.uniform(size=persons),
        pictures=np.arange(persons) % pictures,
        tells_counting=np.ones(persons, dtype=np.bool_),
    )


def test_a_head_learns_what_its_features_tell() -> None:
    told, layers = samples(), head()
    fit = fit_confidence_head(layers, told)
    assert fit.head is None
    assert fit.pictures == 60
    assert fit.before.pearson is not None
    assert fit.held_out.pearson is not None
    assert abs(fit.before.pearson) < 0.3
    assert fit.held_out.pearson > 0.8
    with torch.no_grad():
        parts = torch.from_numpy(told.features.astype(np.float32)).split(layers.layers.widths, dim=-1)
        oks, counting = layers.layers(parts).sigmoid().numpy().transpose(2, 0, 1)
    counts = np.isfinite(told.oks)
    assert np.corrcoef(oks[counts], told.oks[counts])[0, 1] > 0.8
    assert counting[counts].mean() > counting[~counts].mean() + 0.3


def test_keypoints_that_nobody_labelled_teach_nothing_about_counting() -> None:
    def counting(tells: bool) -> float:
        told, layers = samples(), head()
        oks = told.oks.copy()
        oks[:300, 3:] = np.nan  # half of the persons have two keypoints that nobody labelled
        tells_counting = np.arange(600) >= 300 if not tells else np.ones(600, dtype=np.bool_)
        fit_confidence_head(layers, replace(told, oks=oks, tells_counting=tells_counting))
        with torch.no_grad():
            parts = torch.from_numpy(told.features.astype(np.float32)).split(layers.layers.widths, dim=-1)
            return float(layers.layers(parts).sigmoid()[..., 3:, 1].mean())

    counts = float((samples().features[:, 3:, -1] > 900).mean())
    assert abs(counting(tells=False) - counts) < 0.1
    assert counting(tells=True) < counts - 0.2


def test_the_same_samples_give_the_same_head() -> None:
    one, other = head(), head()
    for each in (one, other):
        fit_confidence_head(each, samples(100, 10))
    for mine, its in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(mine, its)


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (samples(100, 4), "Learning scores needs at least 5 pictures, one of five is held out, got 4."),
        (samples(100, 10, features=8), r"must be finite numbers of shape \(M, 5, 9\), got \(100, 5, 8\). Collect them"),
    ],
)
def test_samples_that_fit_no_head_are_refused(told: ScoreSamples, text: str) -> None:
    with pytest.raises(InputError, match=text):
        fit_confidence_head(head(), told)


@pytest.mark.parametrize("kind", ["one map", "two maps", "heatmap", "transformer"])
def test_parts_are_what_the_head_of_the_network_reads(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    ratio, scalars = 1.25 if kind == "two maps" else 1.0, kind != "heatmap"
    if kind == "transformer":
        model: ProbPoseM | ProbPoseS = ProbPoseS(channels=24, depth=1, heads=2, deconvolutions=(8, 8)).eval()
    else:
        model = ProbPoseM(input_wh=(96, 128), window_ratio=ratio, scalar_heads=scalars).eval()
    torch.nn.init.normal_(model.map_head.final.weight, std=0.2)
    width, height = model.input_wh
    crops = np.random.default_rng(0).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    names = tuple(TorchRuntime(model).run(crops).named())
    raw = PartsRuntime(PartsNetwork(model).eval(), names).run(crops)
    layers = add_confidence_head(model).layers
    whole = TorchRuntime(model).run(crops)
    assert whole.confidence is not None
    assert tuple(whole.named()) == (*names, "confidence")
    np.testing.assert_array_equal(raw.logits, whole.logits)
    with torch.no_grad():
        expected = layers(torch.from_numpy(raw.parts).split(layers.widths, dim=-1)).sigmoid().numpy()
    np.testing.assert_allclose(whole.confidence, expected, atol=1e-6)
    contract = checkpoint_contract(model).replace(confidence_head=True, scores={"kind": "ccnet"})
    save_checkpoint(tmp_path / "m.safetensors", model, contract)
    again, read = load_checkpoint(tmp_path / "m.safetensors")
    assert read.replace(checkpoint_sha256="") == contract
    np.testing.assert_array_equal(TorchRuntime(again).run(crops).confidence, whole.confidence)
    bare, plain = without_confidence_head(model, contract)
    assert bare.confidence_head is None
    assert model.confidence_head is not None
    assert (plain.confidence_head, plain.scores) == (False, {})
