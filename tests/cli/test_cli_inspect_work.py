"""What `inspect` says of the arithmetic of a file, in words and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from probpose_cli.inspect import work_lines
from probpose_edge.contract.read_contract import read_contract
from probpose_edge.weights import shipped_model
from probpose_eval.benchmark.operator_profile import OperatorProfile, sum_products


def test_shipped_files(cli: Callable[..., Any]) -> None:
    pytest.importorskip("ai_edge_litert", reason="needs the extra tflite")
    onnx = cli("inspect", shipped_model("onnx")).out
    assert "690 M multiply-adds a crop: 686 M in int8 (99.5%), 3 M in float" in onnx
    assert "in float: 4 Conv (3.4 M)" in onnx
    tflite = cli("inspect", shipped_model("tflite")).out
    assert "XNNPACK takes it in 1 part; 1 RESHAPE outside the delegate, 1 CAST outside the delegate" in tflite
    document = json.loads(cli("inspect", "--json", shipped_model("tflite")).out)
    operators = document["operators"]
    assert operators["partitions"] == 1
    assert operators["float_products"] == {"CONV_2D": [4, operators["float_macs"]]}
    assert document["model"] == "probpose-m"


def test_words() -> None:
    contract = read_contract(shipped_model("onnx"))
    integer, floats, products = sum_products([("conv", True, 7), ("conv", False, 2), ("linear", False, 3)] * 1_000_000)
    assert (integer, floats) == (7_000_000, 5_000_000)
    assert list(products) == ["linear", "conv"]
    coreml = contract.replace(format="coreml", recipe="palette6")
    weights = OperatorProfile(int8_macs=0, float_macs=floats, slow=(), float_products=products)
    assert work_lines(weights, coreml) == [
        "5 M multiply-adds a crop: 0 M in int8 (0.0%), 5 M in float",
        "in float: 1000000 linear (3.0 M), 1000000 conv (2.0 M)",
        "its weights alone are stored in 8 bits or fewer: the products are float",
        "by the program; which unit of a device takes a layer, and in which type, is decided there",
    ]
    parts = OperatorProfile(int8_macs=integer, float_macs=0, slow=(), partitions=3)
    assert work_lines(parts, contract.replace(format="tflite"))[1:] == [
        "XNNPACK takes it in 3 parts; nothing outside the delegate"
    ]
    slow = OperatorProfile(int8_macs=integer, float_macs=0, slow=("Cast 9% of the time",))
    assert work_lines(slow, contract)[1:] == ["off the fast path: Cast 9% of the time"]
