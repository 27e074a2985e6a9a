"""Routers: samples of a pair, their cache, the fit."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from probpose_edge.estimator import PoseEstimator
from probpose_edge.exceptions import AnnotationError, InputError, TrainingError
from probpose_edge.routing.flip_test import flip_test
from probpose_eval.annotations.coco import read_annotations
from probpose_eval.synth.set import write_synth_set
from probpose_models.checkpoint import checkpoint_contract
from probpose_models.probpose_m import ProbPoseM
from probpose_models.router_checkpoint import load_router
from probpose_models.torch_runtime import TorchRuntime
from probpose_train.augment import plan_sample
from probpose_train.config import AugmentConfig, DataSource
from probpose_train.router_cache import load_samples, samples_key, save_samples
from probpose_train.router_fit import QUANTILES, fit_router, router_scores
from probpose_train.router_run import save_router
from probpose_train.router_samples import RouterSamples, collect_router_samples, cut_at, router_frame
from probpose_train.sources import PersonSet

SMALL = (96, 128)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> DataSource:
    folder = tmp_path_factory.mktemp("routed") / "drawn"
    write_synth_set(folder, count=4, seed=5, width=200, height=240, persons=(1, 1))
    return DataSource(annotations=str(folder / "annotations.json"), images=str(folder / "images"))


@pytest.fixture(scope="module")
def member() -> PoseEstimator:
    torch.manual_seed(0)
    model = ProbPoseM(17, input_wh=SMALL).eval()
    return PoseEstimator(TorchRuntime(model), checkpoint_contract(model))


@pytest.fixture(scope="module")
def samples(member: PoseEstimator, source: DataSource) -> RouterSamples:
    return collect_router_samples(member, flip_test(member), [source], samples=5, batch=3, seed=1)


def learnable(n: int = 240) -> RouterSamples:
    """Bright crops are those on which the large member is right."""
    rng = np.random.default_rng(0)
    bright = rng.random(n) < 0.5
    planes = rng.integers(0, 90, (n, 64, 48)).astype(np.uint8) + (bright[:, None, None] * 120).astype(np.uint8)
    large = np.where(bright, 0.2, 1.0)
    return RouterSamples(
        planes={SMALL: planes},
        small_okd=np.ones(n),
        large_okd=large,
        small_oks=np.full(n, 0.5),
        large_oks=np.exp(-(large**2) / 2),
        pictures=np.arange(n, dtype=np.int64),
    )


def test_samples_depend_on_seed_and_number_alone(
    samples: RouterSamples, member: PoseEstimator, source: DataSource
) -> None:
    told: list[tuple[int, int]] = []
    again = collect_router_samples(
        member, flip_test(member), [source], samples=5, batch=5, seed=1, progress=lambda *done: told.append(done)
    )
    assert told == [(5, 5)]
    assert samples.planes[SMALL].shape == (5, 64, 48)
    assert samples.planes[SMALL].std() > 0
    np.testing.assert_array_equal(again.planes[SMALL], samples.planes[SMALL])
    np.testing.assert_array_equal(again.pictures, samples.pictures)
    np.testing.assert_allclose(again.small_okd, samples.small_okd, rtol=1e-4)
    assert (samples.small_okd != samples.large_okd).any()
    assert ((samples.targets >= 0) & (samples.targets <= 1)).all()


def test_a_member_that_is_right_has_no_distance(
    monkeypatch: pytest.MonkeyPatch, member: PoseEstimator, source: DataSource
) -> None:
    """The truth is in the pixels in which members answer: one that repeats it is perfect."""
    from probpose_train import router_samples

    drawn = []

    def keep(*arguments: object) -> object:
        sample = plan_sample(*arguments)  # type: ignore[arg-type]
        drawn.append(np.concatenate([sample.points_cell, np.ones((17, 1))], axis=1))
        return sample

    monkeypatch.setattr(router_samples, "plan_sample", keep)
    monkeypatch.setattr(router_samples, "_in_frame", lambda *_: np.stack(drawn))
    perfect = collect_router_samples(member, member, [source], samples=2)
    assert perfect.small_okd.max() < 1e-6
    assert perfect.targets.max() == 0
    assert perfect.large_oks.min() > 1 - 1e-6


def test_a_crop_of_another_size_shows_the_same(member: PoseEstimator, source: DataSource) -> None:
    frame = dataclasses.replace(router_frame(member, member), input_wh=(192, 256), heatmap_wh=(192, 256))
    calm = AugmentConfig(colour=0, blur=0, paste=1.0)
    people, rng = PersonSet(source), np.random.default_rng(2)
    sample = plan_sample(people.person(0), rng, frame, calm, lambda: people.person(1))
    wide, narrow = (cut_at(sample.plan, frame.input_wh, wh).astype(float) for wh in ((192, 256), SMALL))
    assert narrow.shape == (128, 96, 3)
    halved = wide.reshape(128, 2, 96, 2, 3).mean((1, 3))
    assert np.corrcoef(halved.ravel(), narrow.ravel())[0, 1] > 0.95


def test_sets_that_do_not_fit(member: PoseEstimator, source: DataSource) -> None:
    with pytest.raises(AnnotationError, match=r"A router learns from photographs.*got synth. Name an annotated set"):
        collect_router_samples(member, member, [DataSource(annotations="synth")])
    with pytest.raises(InputError, match=r"at least 1 sample, got 0. Usual are 10000"):
        collect_router_samples(member, member, [source], samples=0)
    names = member.contract.keypoint_names
    turned = PoseEstimator(member.runtime, member.contract.replace(keypoint_names=(*names[1:], names[0])))
    with pytest.raises(AnnotationError, match="must name the keypoints of the pair in the same order"):
        collect_router_samples(turned, turned, [source], samples=1)
    assert len(read_annotations(source.annotations).persons) > 1


def test_the_cache_gives_the_same_back_and_only_for_its_key(
    tmp_path: Path, samples: RouterSamples, member: PoseEstimator, source: DataSource
) -> None:
    path, model_file = tmp_path / "targets.npz", tmp_path / "m.onnx"
    model_file.write_bytes(b"a")

    def key(**changes: object) -> str:
        settings = {"samples": 5, "seed": 1, "files": [model_file], "passes": "flip", **changes}
        return samples_key(member, member, [source], **settings)  # type: ignore[arg-type]

    assert load_samples(path, key()) is None
    save_samples(path, samples, key())
    read = load_samples(path, key())
    assert read is not None
    for field in dataclasses.fields(RouterSamples):
        np.testing.assert_equal(getattr(read, field.name), getattr(samples, field.name))
    assert all(load_samples(path, key(**change)) is None for change in ({"seed": 2}, {"passes": "one"}, {"samples": 6}))
    model_file.write_bytes(b"b")
    assert load_samples(path, key()) is None
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match=r"reading .*targets.npz failed: .*Delete it to collect them again"):
        load_samples(path, key())


def test_a_router_learns_what_can_be_seen_and_its_checkpoint_says_so(tmp_path: Path, member: PoseEstimator) -> None:
    data = learnable()
    fit = fit_router(data, SMALL, epochs=6, seed=0)
    assert fit.figures["correlation"] > 0.8
    assert fit.figures["gain_routed_half"] > 1.5 * fit.figures["gain_random_half"] > 0
    assert fit.figures["mse"] < fit.figures["mse_of_the_mean"]
    assert len(fit.quantiles) == QUANTILES
    assert list(fit.quantiles) == sorted(fit.quantiles)
    contract = save_router(tmp_path / "r.safetensors", fit, member.contract, ("a.onnx", "b.onnx"))
    model, read = load_router(tmp_path / "r.safetensors")
    assert read.replace(checkpoint_sha256="") == contract
    assert (read.small, read.large, read.input_wh) == ("a.onnx", "b.onnx", SMALL)
    np.testing.assert_array_equal(
        router_scores(model, data.planes[SMALL]), router_scores(fit.model, data.planes[SMALL])
    )


def test_a_seed_gives_a_router() -> None:
    one, same, other = (fit_router(learnable(64), SMALL, epochs=1, seed=seed).quantiles for seed in (0, 0, 1))
    assert one == same
    assert one != other


def test_targets_that_teach_nothing_are_refused() -> None:
    data = learnable(40)
    with pytest.raises(TrainingError, match=r"at least 10 pictures, one of five is held out, got 1. Give a larger set"):
        fit_router(dataclasses.replace(data, pictures=np.zeros(40, dtype=np.int64)), SMALL)
    with pytest.raises(TrainingError, match=r"every target is 0. Choose two members that differ"):
        fit_router(dataclasses.replace(data, large_okd=data.small_okd), SMALL)
    broken = data.small_okd.copy()
    broken[3] = np.nan
    with pytest.raises(TrainingError, match=r"targets of a router must be finite, but 1 of 40 are NaN. Check both"):
        fit_router(dataclasses.replace(data, small_okd=broken), SMALL)
