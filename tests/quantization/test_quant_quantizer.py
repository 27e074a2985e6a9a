"""The quantized graph: what is int8, on which grid, how close to float; on small networks with the family's layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx import GraphModule, Node

from probpose_edge.exceptions import InputError
from probpose_models.deploy import Deployable
from probpose_models.layers import conv_bn_relu, conv_bn_relu6
from probpose_models.mobilenet_v2 import InvertedResidual
from probpose_models.outputs import PoseOutputs
from probpose_models.probpose_m import upsample2x
from probpose_models.probpose_s import DeconvHead
from probpose_models.vit import Block

pytest.importorskip("torchao", reason="needs the extra convert")

from probpose_quant import RECIPES, Recipe, quantize_static

STATIC = RECIPES["int8-static"]
CONVOLUTIONS = ("aten.conv2d.default", "aten.conv_transpose2d.input")


class SmallConvolutional(nn.Module):
    """The operators of probpose-m: stem, inverted residuals, pyramid, pools, heads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn_relu6(3, 8, 3, 2)
        self.stage4 = nn.Sequential(InvertedResidual(8, 12, 2, 2), InvertedResidual(12, 12, 1, 2))
        self.stage8 = InvertedResidual(12, 16, 2, 2)
        self.lateral8 = conv_bn_relu(16, 16, 1)
        self.lateral4 = nn.Sequential(nn.Conv2d(12, 16, 1, bias=False), nn.BatchNorm2d(16))
        self.final = nn.Conv2d(16, 17, 1)
        self.scalars = nn.Sequential(conv_bn_relu(16, 8, 3), nn.MaxPool2d(2), nn.Conv2d(8, 51, (4, 3)))

    def forward(self, x: Tensor) -> PoseOutputs:
        stride4 = self.stage4(self.stem(x))
        stride8 = self.stage8(stride4)
        logits = self.final(torch.relu(upsample2x(self.lateral8(stride8)) + self.lateral4(stride4)))
        return PoseOutputs(logits, *self.scalars(stride8.detach()).flatten(1).split(17, dim=1))


class SmallTransformer(nn.Module):
    """The operators of probpose-s: patches, attention, MLP, deconvolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, 24, 16, stride=16)
        self.block = Block(24, 2)
        self.head = DeconvHead(24, 17, hidden=(8, 8))
        self.scalar = nn.Conv2d(24, 17, (4, 3))

    def forward(self, x: Tensor) -> PoseOutputs:
        x = self.patch_embed(x)
        n, width, rows, columns = x.shape
        x = self.block(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(n, width, rows, columns)
        scalar = self.scalar(x).flatten(1)
        return PoseOutputs(self.head(x)[0], scalar, scalar, scalar)


@pytest.fixture(scope="module")
def crops(noisy_crops: Callable[..., NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """(12, 64, 48, 3): smooth colours and noise."""
    return noisy_crops(12, cells=(8, 6), cell=8)


def with_statistics(network: nn.Module, crops: NDArray[np.uint8]) -> nn.Module:
    """The network in eval mode, its batch normalisations having seen the crops."""
    network.train()
    with torch.no_grad():
        for _ in range(20):
            Deployable(network)(torch.from_numpy(crops))
    return network.eval()


@pytest.fixture(scope="module")
def convolutional(crops: NDArray[np.uint8]) -> nn.Module:
    torch.manual_seed(0)
    network = SmallConvolutional()
    nn.init.normal_(network.final.weight, std=0.5)
    return with_statistics(network, crops)


@pytest.fixture(scope="module")
def transformer(crops: NDArray[np.uint8]) -> nn.Module:
    torch.manual_seed(0)
    network = SmallTransformer()
    nn.init.normal_(network.head.final.weight, std=0.5)
    return with_statistics(network, crops)


@pytest.fixture(scope="module")
def unsigned(convolutional: nn.Module, crops: NDArray[np.uint8]) -> GraphModule:
    return quantize_static(convolutional, crops, STATIC, int32_bias=True, unsigned_activations=True)


@pytest.fixture(scope="module")
def signed(convolutional: nn.Module, crops: NDArray[np.uint8]) -> GraphModule:
    return quantize_static(convolutional, crops, STATIC, int32_bias=False)


def nodes(graph: GraphModule, *targets: str) -> list[Node]:
    return [node for node in graph.graph.nodes if str(node.target) in targets]


def constant(graph: GraphModule, node: Any) -> Tensor:
    """The stored tensor behind a graph node."""
    assert isinstance(node, Node)
    assert node.op == "get_attr"
    value: Any = graph
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value


def behind_dequantize(graph: GraphModule, node: Any) -> Tensor:
    assert "dequantize_per_channel" in str(node.target)
    return constant(graph, node.args[0])


def relative_error(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).pow(2).mean().sqrt() / expected.pow(2).mean().sqrt())


@torch.no_grad()
@pytest.mark.parametrize("kind", ["convolutional", "transformer"])
def test_outputs_stay_close_to_float_and_are_float(
    kind: str, crops: NDArray[np.uint8], request: pytest.FixtureRequest
) -> None:
    network = request.getfixturevalue(kind)
    graph = quantize_static(network, crops, STATIC, int32_bias=True, unsigned_activations=True)
    image = torch.from_numpy(crops)
    for got, expected in zip(graph(image), Deployable(network)(image), strict=True):
        assert got.dtype == torch.float32
        # 8 bits per value through up to ten layers: a few percent; a layer on a wrong scale would be off by its size.
        assert 0 < relative_error(got, expected) < 0.1


def test_every_convolution_has_int8_weights_per_channel(unsigned: GraphModule) -> None:
    convolutions = nodes(unsigned, *CONVOLUTIONS)
    assert len(convolutions) == 15
    for convolution in convolutions:
        weight = behind_dequantize(unsigned, convolution.args[1])
        scale = constant(unsigned, convolution.args[1].args[1])
        assert weight.dtype == torch.int8
        assert weight.abs().max() <= 127
        assert scale.shape == (weight.shape[0],)
        assert convolution.args[1].args[3] == 0


def test_transposed_convolutions_are_quantized_along_their_output_channels(
    transformer: nn.Module, crops: NDArray[np.uint8]
) -> None:
    graph = quantize_static(transformer, crops, STATIC, int32_bias=False)
    for deconvolution in nodes(graph, "aten.conv_transpose2d.input"):
        weight = behind_dequantize(graph, deconvolution.args[1])
        scale = constant(graph, deconvolution.args[1].args[1])
        assert weight.dtype == torch.int8
        assert scale.shape == (weight.shape[1],) == (8,)
        assert deconvolution.args[1].args[3] == 1
    assert len(nodes(graph, "aten.conv_transpose2d.input")) == 2


def test_linear_layers_and_products_take_int8_and_give_float(transformer: nn.Module, crops: NDArray[np.uint8]) -> None:
    graph = quantize_static(transformer, crops, STATIC, int32_bias=False)
    products = nodes(graph, "aten.linear.default", "aten.matmul.default")
    assert len(products) == 6
    for product in products:
        assert all("dequantize" in str(x.target) for x in product.args[:2])
        assert not any("quantize" in str(user.target) for user in product.users)


def test_recipes_without_linear_leave_linear_layers_alone(transformer: nn.Module, crops: NDArray[np.uint8]) -> None:
    graph = quantize_static(transformer, crops, dataclasses.replace(STATIC, linear=False), int32_bias=False)
    for product in nodes(graph, "aten.linear.default", "aten.matmul.default"):
        assert not any("dequantize" in str(x.target) for x in product.args if isinstance(x, Node))
    assert all("dequantize" in str(node.args[1].target) for node in nodes(graph, "aten.conv2d.default"))


def test_int32_biases_have_the_scale_of_the_products(unsigned: GraphModule) -> None:
    for convolution in nodes(unsigned, "aten.conv2d.default"):
        source, weight, bias = convolution.args[:3]
        assert behind_dequantize(unsigned, bias).dtype == torch.int32
        product = source.args[1] * constant(unsigned, weight.args[1])
        torch.testing.assert_close(constant(unsigned, bias.args[1]), product, rtol=1e-6, atol=0)


def test_float_biases_stay_where_a_target_wants_them(signed: GraphModule) -> None:
    for convolution in nodes(signed, "aten.conv2d.default"):
        assert constant(signed, convolution.args[2]).dtype == torch.float32


def test_no_float_round_trip_between_convolutions(unsigned: GraphModule) -> None:
    between = nodes(unsigned, "aten.pad.default", "aten.max_pool2d.default", "aten.upsample_bilinear2d.vec")
    assert len(between) == 5
    for node in between:
        source = node.args[0]
        assert "dequantize_per_tensor" in str(source.target)
        (quantize,) = node.users
        assert "quantize_per_tensor" in str(quantize.target)
        # The same scale and zero point before and after: the values do not change grid.
        assert source.args[1:3] == quantize.args[1:3]


def test_sums_of_int8_values_are_int8(unsigned: GraphModule) -> None:
    # The first sum is the normalisation of the pixels.
    sums = nodes(unsigned, "aten.add.Tensor")[1:]
    assert len(sums) == 2
    for node in sums:
        assert all("dequantize_per_tensor" in str(x.target) for x in node.args)


def test_activations_are_folded_into_the_range_of_their_convolution(unsigned: GraphModule) -> None:
    for node in nodes(unsigned, "aten.hardtanh_.default", "aten.relu_.default"):
        assert node.args[0].target is torch.ops.aten.conv2d.default
        (quantize,) = node.users
        scale, zero_point = quantize.args[1:3]
        assert zero_point == 0
        assert "relu" in str(node.target) or scale * 255 <= 6 * (1 + 1e-6)


@torch.no_grad()
def test_signed_and_unsigned_activations_are_the_same_grid(
    signed: GraphModule, unsigned: GraphModule, crops: NDArray[np.uint8]
) -> None:
    name = "quantized_decomposed.quantize_per_tensor.default"
    pairs = list(zip(nodes(signed, name), nodes(unsigned, name), strict=True))
    assert len(pairs) > 20
    for one, other in pairs:
        assert one.args[1] == other.args[1]
        assert one.args[2] + 128 == other.args[2]
        assert (one.args[-1], other.args[-1]) == (torch.int8, torch.uint8)
    image = torch.from_numpy(crops)
    for a, b in zip(signed(image), unsigned(image), strict=True):
        # Biases differ (float and int32), which now and then moves a value to the next step.
        assert relative_error(a, b) < 0.05


@torch.no_grad()
def test_any_batch_size_and_no_influence_between_crops(unsigned: GraphModule, crops: NDArray[np.uint8]) -> None:
    together = unsigned(torch.from_numpy(crops[:5]))
    for index in range(5):
        alone = unsigned(torch.from_numpy(crops[index : index + 1]))
        for a, b in zip(alone, together, strict=True):
            assert a.shape[0] == 1
            assert relative_error(a[0], b[index]) < 0.05


@torch.no_grad()
def test_channels_that_batch_normalisation_silenced_do_no_harm(crops: NDArray[np.uint8]) -> None:
    torch.manual_seed(0)
    network = with_statistics(SmallConvolutional(), crops)
    normalisation = network.stem[1]
    # Folded into the convolution: weights of 1e-13 next to a bias of 3, which must still fit into int32.
    normalisation.weight[0], normalisation.bias[0] = 1e-12, 3.0
    graph = quantize_static(network, crops, STATIC, int32_bias=True, unsigned_activations=True)
    bias = behind_dequantize(graph, nodes(graph, "aten.conv2d.default")[0].args[2])
    assert abs(int(bias[0])) < 2**31 - 1
    image = torch.from_numpy(crops)
    for got, expected in zip(graph(image), Deployable(network)(image), strict=True):
        assert relative_error(got, expected) < 0.1


def test_the_network_is_left_as_it_was(crops: NDArray[np.uint8]) -> None:
    torch.manual_seed(0)
    network = SmallConvolutional().train()
    network.stem.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    quantize_static(network, crops[:2], STATIC, int32_bias=True)
    assert network.training
    assert not any(module.training for module in network.stem.modules())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_no_calibration_crops(convolutional: nn.Module, crops: NDArray[np.uint8]) -> None:
    with pytest.raises(InputError, match=r"takes its ranges from example crops and got none\. Name annotated pictures"):
        quantize_static(convolutional, crops[:0], STATIC, int32_bias=True)


@torch.no_grad()
@pytest.mark.parametrize("observer", ["minmax", "percentile", "mse", "entropy"])
def test_how_each_observer_treats_one_far_value(observer: str) -> None:
    from probpose_quant.observers import activation_spec

    spec = activation_spec(Recipe(name="x", observer=observer, tail=0.001), unsigned=True)
    watch = spec.observer_or_fake_quant_ctr(
        dtype=spec.dtype, quant_min=spec.quant_min, quant_max=spec.quant_max, qscheme=spec.qscheme
    )
    values = torch.linspace(0, 1, 3_000_000)
    watch(values)
    watch(torch.cat([values, torch.tensor([4.0])]))
    scale, zero_point = watch.calculate_qparams()
    top = float(scale) * 255
    assert int(zero_point) == 0
    # One value in six million: min-max reaches it, the others give its place to the many.
    assert top == pytest.approx(4, rel=1e-3) if observer == "minmax" else 0.95 < top < 1.2


@torch.no_grad()
def test_zeros_behind_a_relu_do_not_narrow_the_range_of_least_divergence() -> None:
    from probpose_quant.observers import activation_spec

    spec = activation_spec(Recipe(name="x", observer="entropy"), unsigned=True)
    watch = spec.observer_or_fake_quant_ctr(
        dtype=spec.dtype, quant_min=spec.quant_min, quant_max=spec.quant_max, qscheme=spec.qscheme
    )
    # Nine of ten are zero; the others lie evenly between 0 and 6.
    watch(torch.cat([torch.zeros(900_000), torch.linspace(0, 6, 100_000)]))
    scale, _ = watch.calculate_qparams()
    assert 5.5 < float(scale) * 255 < 6.1


def test_recipes_are_checked_and_frozen() -> None:
    with pytest.raises(InputError, match=r"must be one of minmax, percentile, mse, entropy, got 'guess'"):
        Recipe(name="x", observer="guess")
    with pytest.raises(InputError, match=r"tail of a recipe must lie in \[0, 0\.5\), got 0\.7"):
        Recipe(name="x", tail=0.7)
    with pytest.raises(dataclasses.FrozenInstanceError):
        STATIC.observer = "minmax"  # type: ignore[misc]
    assert {name: recipe.name for name, recipe in RECIPES.items()} == {"int8-static": "int8-static"}
