"""The decode as a torch module is the SDK's decode, whatever the maps look like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")

from probpose_edge import InputError, PoseEstimator, Poses, RawOutputs  # noqa: E402
from probpose_edge.contract.metadata import DECODED_NAMES, KERNELS, ModelContract  # noqa: E402
from probpose_edge.decode import expected_oks_maps, kernel_variances, smoothing_matrices  # noqa: E402
from probpose_edge.probmap import sparsemax_maps  # noqa: E402
from probpose_edge.runtimes.base import DecodedOutputs, outputs_from  # noqa: E402
from probpose_edge.window import box_to_window, crop_windows  # noqa: E402
from probpose_eval.annotations.coco import read_annotations  # noqa: E402
from probpose_eval.calibration.calibration_samples import collect_samples  # noqa: E402
from probpose_eval.observations.observe import observe_set  # noqa: E402
from probpose_eval.synth import draw_scene  # noqa: E402
from probpose_eval.synth.set import write_synth_set  # noqa: E402
from probpose_models.decode_in_graph import (  # noqa: E402
    DecodeInGraph,
    Smooth,
    SmoothMirrored,
    decoded_contract,
    sparsemax,
)
from probpose_models.open_checkpoint import open_checkpoint  # noqa: E402
from probpose_models.shipped import shipped_checkpoint  # noqa: E402
from probpose_models.torch_runtime import TorchRuntime  # noqa: E402

CELLS = 1e-2
"""How far a keypoint may be from the SDK's, in cells; that is a twenty-fifth of a pixel of the crop."""
OKS = 1e-5
"""How far the other numbers may be: both sides compute in float32."""


@pytest.fixture(scope="module")
def shipped() -> tuple[Any, ModelContract]:
    model, contract = open_checkpoint(shipped_checkpoint())
    rng = np.random.default_rng(5)
    scale, bias = tuple(rng.uniform(0.5, 2, 17).tolist()), tuple(rng.uniform(-1, 1, 17).tolist())
    return model, contract.replace(presence_scale=scale, presence_bias=bias, quality_scale=scale, quality_bias=bias)


@pytest.fixture(scope="module")
def drawn(shipped: tuple[Any, ModelContract]) -> RawOutputs:
    """What the shipped weights give for drawn people."""
    model, contract = shipped
    crops = []
    for index in range(4):
        scene = draw_scene(np.random.default_rng((9, index)), persons=(1, 2))
        for person in scene.persons:
            window = box_to_window(np.asarray(person.bbox_xyxy)[None], contract.input_wh, contract.padding)
            crops.append(crop_windows(scene.image, window, contract.input_wh)[0])
    return TorchRuntime(model).run(np.stack(crops))


class _Given:
    """A runtime that was asked already."""

    name = provenance = "measured"

    def __init__(self, outputs: RawOutputs) -> None:
        self.outputs = outputs

    def run(self, crops: NDArray[np.uint8]) -> RawOutputs:
        return self.outputs

    def close(self) -> None:
        pass


class _Decoding:
    """A network followed by the decode."""

    name = provenance = "measured"

    def __init__(self, model: Any, contract: ModelContract) -> None:
        self.runtime, self.decode = TorchRuntime(model), DecodeInGraph(contract)

    def run(self, crops: NDArray[np.uint8]) -> RawOutputs:
        with torch.no_grad():
            values = self.decode(*map(torch.from_numpy, self.runtime.run(crops).named().values()))
        return outputs_from({name: value.numpy() for name, value in zip(DECODED_NAMES, values, strict=True)})

    def close(self) -> None:
        pass


def both(raw: RawOutputs, contract: ModelContract) -> tuple[Poses, Poses]:
    """Poses decoded by the SDK, and by the module, in pixels of windows that differ from person to person."""
    tensors = [torch.from_numpy(values) for values in raw.named().values()]
    with torch.no_grad():
        values = DecodeInGraph(contract)(*tensors)
    inside = outputs_from({name: value.numpy() for name, value in zip(DECODED_NAMES, values, strict=True)})
    n = raw.crops
    windows = np.random.default_rng(1).uniform([0, 0, 90, 120], [200, 200, 300, 400], (n, 4))
    by_sdk = PoseEstimator(_Given(raw), contract).decode_outputs(raw, windows)
    by_module = PoseEstimator(_Given(inside), decoded_contract(contract)).decode_outputs(inside, windows)
    return by_sdk, by_module


def shift_cell(by_sdk: Poses, by_module: Poses, contract: ModelContract) -> NDArray[np.float64]:
    """(N, K) distances in cells of the map over the window."""
    cell = by_sdk.windows[:, None, 2:] / (np.array(contract.heatmap_wh) - 1)
    return np.asarray(np.linalg.norm((by_sdk.keypoints - by_module.keypoints) / cell, axis=-1))


def assert_equal(by_sdk: Poses, by_module: Poses, contract: ModelContract) -> None:
    assert shift_cell(by_sdk, by_module, contract).max() < CELLS
    for name in ("presence", "visibility", "quality", "expected_oks", "scores", "windows"):
        assert np.abs(getattr(by_sdk, name) - getattr(by_module, name)).max() < OKS, name


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("temperature", [0.05, 0.5, 5])
def test_real_maps_are_decoded_as_by_the_sdk(
    drawn: RawOutputs, shipped: tuple[Any, ModelContract], kernel: str, temperature: float
) -> None:
    contract = shipped[1].replace(decode_kernel=kernel, temperature=temperature)
    by_sdk, by_module = both(drawn, contract)
    assert_equal(by_sdk, by_module, contract)
    # The calibration is not the identity, so a module without it would have been found out.
    assert drawn.presence is not None
    assert np.abs(by_sdk.presence - drawn.presence).max() > 0.05


def scalars(n: int, k: int) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(2)
    return {name: rng.uniform(0, 1, (n, k)).astype(np.float32) for name in ("presence", "visibility", "quality")}


@pytest.mark.parametrize("kernel", KERNELS)
def test_peaks_on_the_border_and_in_the_corners_stay_there(shipped: tuple[Any, ModelContract], kernel: str) -> None:
    contract = shipped[1].replace(decode_kernel=kernel)
    places = [(0, 0), (47, 0), (0, 63), (47, 63), (20, 0), (20, 63), (0, 30), (47, 30), (1, 1), (46, 62), (24, 32)]
    y, x = np.mgrid[:64, :48]
    logits = np.zeros((len(places), 17, 64, 48), np.float32)
    for index, (column, row) in enumerate(places):
        logits[index] = -((x - column) ** 2 + (y - row) ** 2) / 4
    by_sdk, by_module = both(RawOutputs(logits=logits, **scalars(len(places), 17)), contract)
    assert_equal(by_sdk, by_module, contract)


@pytest.mark.parametrize("kernel", KERNELS)
def test_flat_maps_have_a_place_as_good_as_the_sdks(shipped: tuple[Any, ModelContract], kernel: str) -> None:
    """Where every cell is as good as its neighbour up to rounding, the place may differ and its worth may not."""
    contract = shipped[1].replace(decode_kernel=kernel)
    rng = np.random.default_rng(3)
    logits = np.stack([np.full((17, 64, 48), 3, np.float32), rng.normal(0, 1e-6, (17, 64, 48)).astype(np.float32)])
    by_sdk, by_module = both(RawOutputs(logits=logits, **scalars(2, 17)), contract)
    assert np.isfinite(by_module.keypoints).all()
    worth = expected_oks_maps(sparsemax_maps(logits, contract.temperature), contract.sigmas, kernel)
    cell = by_module.windows[:, None, 2:] / (np.array(contract.heatmap_wh) - 1)
    corner = by_module.windows[:, None, :2] - by_module.windows[:, None, 2:] / 2
    column, row = np.moveaxis(np.rint((by_module.keypoints - corner) / cell).astype(int), -1, 0)
    n, k = np.ogrid[:2, :17]
    reached = worth[n, k, row.clip(0, 63), column.clip(0, 47)]
    np.testing.assert_allclose(reached, worth.max((2, 3)), rtol=2e-5)
    if kernel == "oks":
        np.testing.assert_allclose(by_module.expected_oks, by_sdk.expected_oks, rtol=1e-4)


def test_the_first_of_equal_peaks_is_taken(shipped: tuple[Any, ModelContract]) -> None:
    contract = shipped[1].replace(decode_kernel="argmax")
    logits = np.full((1, 17, 64, 48), -9, np.float32)
    for row, column in ((10, 30), (10, 12), (40, 3)):
        logits[0, :, row, column] = 4
    by_sdk, by_module = both(RawOutputs(logits=logits, **scalars(1, 17)), contract)
    assert_equal(by_sdk, by_module, contract)


@pytest.mark.parametrize("heatmap_wh", [(48, 64), (24, 32), (7, 11)])
def test_mirrored_smoothing_is_the_product_with_the_matrices(heatmap_wh: tuple[int, int]) -> None:
    """A single cell anywhere, borders included, and a seventh of the constants."""
    sigmas = np.linspace(0.02, 0.11, 17)
    variances = kernel_variances("published", sigmas, heatmap_wh)
    matrices = smoothing_matrices("published", variances, heatmap_wh)
    assert matrices is not None
    short, full = SmoothMirrored(*matrices), Smooth(*matrices)
    maps = torch.zeros(4, 17, heatmap_wh[1], heatmap_wh[0])
    for index, (row, column) in enumerate(((0, 0), (-1, 3), (2, -1), (5, 4))):
        maps[index, :, row, column] = 1
    torch.testing.assert_close(short(maps), full(maps), atol=1e-6, rtol=0)
    if heatmap_wh == (48, 64):
        sizes = [sum(value.numel() for value in module.buffers()) for module in (short, full)]
        assert sizes[0] < sizes[1] / 7


@pytest.mark.parametrize(
    "logits",
    [
        np.random.default_rng(0).normal(0, 1e-5, (2, 3, 16, 12)),
        np.random.default_rng(0).normal(0, 100, (2, 3, 16, 12)),
        -(np.random.default_rng(0).uniform(0, 1, (2, 3, 64, 48)) ** 8),
        np.log(np.arange(1, 64 * 48 + 1)).reshape(1, 1, 64, 48),
        np.random.default_rng(0).normal(1e4, 1, (1, 2, 7, 11)),
    ],
    ids=["flat", "steep", "crowded below the peak", "logarithmic", "large, odd sizes"],
)
def test_newton_steps_reach_the_threshold_of_the_sort(logits: NDArray[np.float64]) -> None:
    values = logits.astype(np.float32)
    got = sparsemax(torch.from_numpy(values), 0.5).numpy()
    np.testing.assert_allclose(got, sparsemax_maps(values, 0.5), atol=2e-6)
    np.testing.assert_allclose(got.sum((2, 3)), 1, atol=2e-5)


def test_two_maps(drawn: RawOutputs, shipped: tuple[Any, ModelContract]) -> None:
    contract = shipped[1].replace(window_ratio=1.25)
    shifted = np.roll(drawn.logits, (20, 9), axis=(2, 3))
    raw = RawOutputs(
        logits=shifted,
        presence=drawn.presence,
        visibility=drawn.visibility,
        quality=drawn.quality,
        expert_logits=drawn.logits,
    )
    by_sdk, by_module = both(raw, contract)
    assert_equal(by_sdk, by_module, contract)
    inner = by_sdk.windows[:, None, 2:] / contract.window_ratio / 2
    refined = (np.abs(by_sdk.keypoints - by_sdk.windows[:, None, :2]) <= inner).all(-1)
    assert refined.any()
    assert not refined.all()


def test_plain_heatmaps(drawn: RawOutputs, shipped: tuple[Any, ModelContract]) -> None:
    contract = shipped[1].replace(map_kind="heatmap", decode_kernel="argmax")
    heatmaps = drawn.logits / np.abs(drawn.logits).max() - 0.3
    by_sdk, by_module = both(RawOutputs(logits=heatmaps), contract)
    assert_equal(by_sdk, by_module, contract)


def test_answers_of_zero_and_one_are_calibrated_as_by_the_sdk(shipped: tuple[Any, ModelContract]) -> None:
    certain = np.tile(np.array([0, 1], np.float32), 17)[None, :17].repeat(2, axis=0)
    raw = RawOutputs(
        logits=np.zeros((2, 17, 64, 48), np.float32), presence=certain, visibility=certain, quality=certain
    )
    by_sdk, by_module = both(raw, shipped[1])
    np.testing.assert_allclose(by_module.presence, by_sdk.presence, atol=1e-7)
    np.testing.assert_allclose(by_module.quality, by_sdk.quality, atol=1e-7)


def test_the_contract_says_that_nothing_is_left_to_calibrate(shipped: tuple[Any, ModelContract]) -> None:
    contract = decoded_contract(shipped[1])
    assert contract.output_names == DECODED_NAMES
    for name in ("presence", "quality"):
        assert set(getattr(contract, f"{name}_scale")) == {1.0}
        assert set(getattr(contract, f"{name}_bias")) == {0.0}
    assert contract.presence_threshold == shipped[1].presence_threshold


def test_a_decoded_file_is_not_calibrated(shipped: tuple[Any, ModelContract]) -> None:
    estimator = PoseEstimator(_Decoding(*shipped), decoded_contract(shipped[1]))
    with pytest.raises(
        InputError, match=r"Calibration needs maps, but .* decodes them inside. Calibrate the checkpoint"
    ):
        collect_samples(estimator, [])


def test_a_decoded_file_is_observed_without_its_maps(shipped: tuple[Any, ModelContract], tmp_path: Path) -> None:
    model, contract = shipped
    contract = contract.replace(calibration={"coverage_temperature": 1.0, "lost_share": 0.1})
    write_synth_set(tmp_path, count=2, seed=4, width=240, height=240, persons=(1, 1))
    data = read_annotations(tmp_path / "annotations.json")
    with_maps = PoseEstimator(TorchRuntime(model), contract)
    inside = PoseEstimator(_Decoding(model, contract), decoded_contract(contract))
    (expected, _), (got, drift) = observe_set([with_maps, inside], data, tmp_path / "images", reference=0)
    assert drift is None
    assert np.isnan(got.standing).all()
    assert not np.isnan(expected.standing).all()
    np.testing.assert_allclose(got.keypoints, expected.keypoints, atol=0.05)
    np.testing.assert_allclose(got.presence, expected.presence, atol=OKS)
    # As the reference it has no maps either.
    assert observe_set([inside, with_maps], data, tmp_path / "images", reference=0)[1][1] is None


def test_a_decoded_file_has_no_maps(shipped: tuple[Any, ModelContract]) -> None:
    values = {name: np.zeros((1, 17, 2) if name == "keypoints" else (1, 17), np.float32) for name in DECODED_NAMES}
    outputs = outputs_from(values)
    assert isinstance(outputs, DecodedOutputs)
    assert list(outputs.named()) == list(DECODED_NAMES)
    message = "Maps were asked for, but this model file decodes them inside .* converted without --decoded"
    with pytest.raises(InputError, match=message):
        _ = outputs.logits
    estimator = PoseEstimator(_Given(outputs), decoded_contract(shipped[1]))
    window = np.array([[96, 128, 192, 256.0]])
    crop = np.zeros((1, 256, 192, 3), np.uint8)
    assert estimator.predict_crops(crop, window).maps is None
    for wanted in (True, "calibrated"):
        with pytest.raises(InputError, match=message):
            estimator.predict_crops(crop, window, return_maps=wanted)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=message):
            estimator.predict_crops(crop[:0], window[:0], return_maps=wanted)  # type: ignore[arg-type]
    with pytest.raises(AttributeError):
        _ = outputs.nothing  # type: ignore[attr-defined]
