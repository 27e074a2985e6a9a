"""Channels of a transformer made even: the same network, with what is large moved into weights."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from probpose_edge.exceptions import InputError  # noqa: E402
from probpose_models.probpose_m import ProbPoseM  # noqa: E402
from probpose_models.probpose_s import ProbPoseS  # noqa: E402
from probpose_models.torch_runtime import TorchRuntime  # noqa: E402
from probpose_quant.smooth_channels import smooth_channels  # noqa: E402

OUTLIERS = 30.0


@pytest.fixture(scope="module")
def crops() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 256, 192, 3), dtype=np.uint8)


@pytest.fixture(scope="module", params=[1.0, 1.25], ids=["one map", "two maps"])
def network(request: pytest.FixtureRequest) -> ProbPoseS:
    """With one channel of every normalisation, and of values and keys, far larger than the others."""
    torch.manual_seed(0)
    model = ProbPoseS(channels=24, depth=2, heads=2, deconvolutions=(8, 8), window_ratio=request.param)
    with torch.no_grad():
        for block in model.backbone.blocks:
            for norm in (block.norm1, block.norm2):
                norm.weight[3] *= OUTLIERS
                norm.bias[5] += OUTLIERS
            block.attn.qkv.weight[[30, 54]] *= OUTLIERS
        model.backbone.norm.weight[7] *= OUTLIERS
    return model.eval()


def reaches(model: ProbPoseS, crops: np.ndarray) -> dict[str, float]:
    """By layer: the largest absolute value of all channels over that of the middle one."""
    found = {}

    def watch(name: str):  # type: ignore[no-untyped-def]
        def hook(module, given, output) -> None:  # type: ignore[no-untyped-def]
            size = output.abs().flatten(0, 1).amax(0)
            parts = size.chunk(3) if name.endswith("qkv") else (size,)
            for index, part in enumerate(parts):
                found[f"{name}.{index}"] = float(part.max() / part.median())

        return hook

    watched = [(n, m) for n, m in model.named_modules() if isinstance(m, torch.nn.LayerNorm) or n.endswith("qkv")]
    handles = [module.register_forward_hook(watch(name)) for name, module in watched]
    TorchRuntime(model).run(crops)
    for handle in handles:
        handle.remove()
    return found


def test_outputs_stay_while_channels_become_even(network: ProbPoseS, crops: np.ndarray) -> None:
    weights = {name: value.clone() for name, value in network.state_dict().items()}
    smoothed = smooth_channels(network, crops)
    for name, expected in TorchRuntime(network).run(crops).named().items():
        got = TorchRuntime(smoothed).run(crops).named()[name]
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    before, after = reaches(network, crops), reaches(smoothed, crops)
    norms = [name for name in before if "norm" in name]
    assert len(norms) == 5
    assert all(after[name] < 0.5 * before[name] for name in norms)
    # Part 2 of an attention's common layer are the values, part 1 the keys.
    assert all(after[name] < 0.7 * before[name] for name in before if name.endswith(("qkv.1", "qkv.2")))


def test_strength_decides_how_much_moves(network: ProbPoseS, crops: np.ndarray) -> None:
    name = "backbone.norm.0"
    none, half, whole = (reaches(smooth_channels(network, crops, strength=s), crops)[name] for s in (0.0, 0.5, 1.0))
    assert none > half > whole
    assert whole == pytest.approx(1, rel=0.01)
    with pytest.raises(InputError, match=r"The strength of smoothing must lie in \[0, 1\], got 1.5. 0.5 is usual."):
        smooth_channels(network, crops, strength=1.5)


def test_a_network_without_transformer_is_only_copied(crops: np.ndarray) -> None:
    torch.manual_seed(0)
    model = ProbPoseM()
    copied = smooth_channels(model, crops)
    assert copied is not model
    assert all(
        torch.equal(a, b) for a, b in zip(model.state_dict().values(), copied.state_dict().values(), strict=True)
    )
