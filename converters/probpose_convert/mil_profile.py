"""Where the work of a CoreML package is done, as its program says: which device unit takes it is decided there."""

from __future__ import annotations

import math
import os

from probpose_convert.mil_reader import MilOperation, MilProgram, MilValue, read_program
from probpose_eval.benchmark.operator_profile import OperatorProfile, sum_products

_PRODUCTS = ("conv", "conv_transpose", "linear", "matmul")


def profile_package(path: str | os.PathLike[str]) -> OperatorProfile:
    """Multiply-adds of one crop through an .mlpackage; a product is int8 if it multiplies quantized values by 8-bit
    weights (W8A8), and float if its weights alone are stored in fewer bits.

    Raises `ModelFileError` for a damaged package, `MissingExtraError` without coremltools.
    """
    program = read_program(path)
    makers = {value.slot: operation for operation in program.operations for value in operation.outputs}
    values = {value.slot: value for operation in program.operations for value in operation.outputs}
    values |= {value.slot: value for value in program.inputs.values()}
    integer, floating, products = sum_products(
        (operation.type, _is_integer(operation, makers), _macs(operation, program, values))
        for operation in program.operations
        if operation.type in _PRODUCTS
    )
    return OperatorProfile(int8_macs=integer, float_macs=floating, slow=(), float_products=products)


def _is_integer(operation: MilOperation, makers: dict[int, MilOperation]) -> bool:
    factors = [operation.arguments["x"], operation.arguments["y" if operation.type == "matmul" else "weight"]]
    made_by = [makers[slot].type if isinstance(slot, int) and slot in makers else "" for slot in factors]
    return made_by[0] == "dequantize" and made_by[1] in ("dequantize", "constexpr_affine_dequantize")


def _macs(operation: MilOperation, program: MilProgram, values: dict[int, MilValue]) -> int:
    def shape(parameter: str) -> tuple[int, ...]:
        slot = operation.arguments[parameter]
        assert isinstance(slot, int)
        return values[slot].shape if slot in values else tuple(getattr(program.constants[slot], "shape", ()))

    out = operation.outputs[0].shape
    if operation.type == "conv_transpose":
        return math.prod(shape("x")) * math.prod(shape("weight")[1:])
    if operation.type == "matmul":
        transposed = operation.arguments.get("transpose_x")
        turned = isinstance(transposed, int) and bool(program.constants.get(transposed, False))
        return math.prod(out) * shape("x")[-2 if turned else -1]
    return math.prod(out) * math.prod(shape("weight")[1:])
