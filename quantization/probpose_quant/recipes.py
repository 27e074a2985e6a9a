"""The named recipes."""

from __future__ import annotations

from probpose_quant.recipe import Recipe

RECIPES = {
    # Measured on probpose-m as ONNX, 64 calibration crops: the range of least squared error moved the keypoints less
    # (mean change of a person's OKS 0.013, on cropped pictures 0.016) than min-max (0.017, 0.022) and than cutting
    # off 1e-5 of the values (0.014, 0.020); cutting off 1e-3 did harm. 128 crops were no better. docs/quantization.md
    # has the same comparison for maps and probabilities.
    "int8-static": Recipe(name="int8-static", observer="mse"),
}
