"""Where in a network the operator is that a format does not have."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from probpose_edge.exceptions import ConversionError
from probpose_models.deploy import Deployable
from probpose_quant.value_keys import module_path

_SPELLINGS = (
    # torch.onnx and litert_torch quote the node, coremltools its kind.
    re.compile(r"target=torch\.ops\.\w+\.(\w+)"),
    re.compile(r"Lowering not found: \w+\.(\w+)"),
    re.compile(r"function for op '(\w+)'"),
    re.compile(r"fx node \w+, kind (\w+)"),
)
_MOST_PLACES = 4
"""An operator that is in more places than this is everywhere, and not what failed."""


def untranslatable(
    model: nn.Module, input_wh: tuple[int, int], format: str, error: BaseException, remedy: str
) -> ConversionError:
    """What to raise for a network that `format` cannot hold: it names the operator and the module it is in, if known.

    error: what the converter raised. remedy: what else could help, a sentence.
    """
    reason = " ".join(str(error.__cause__ or error).split())[:300] or type(error).__name__
    place = operator_place(model, input_wh, error)
    what = f"{place} could not be translated" if place else f"translating it failed with {type(error).__name__}"
    replace = "Write that part of the network with other operators, or choose another format. " if place else ""
    return ConversionError(
        f"A network must consist of operators that {format} has, but {what}: {reason}. {replace}{remedy}"
    )


def operator_place(model: nn.Module, input_wh: tuple[int, int], error: BaseException) -> str:
    """The operator and the module that a failed translation names, such as ``erfinv in map_head.final (Conv2d)``; the
    module alone if torch cannot even record it; empty if neither is known.

    model: the network that was being translated. error: what the converter raised, its causes included.
    """
    network = Deployable(model).eval()
    image = torch.zeros(1, input_wh[1], input_wh[0], 3, dtype=torch.uint8)
    try:
        program = torch.export.export(network, (image,))
    except Exception:  # whatever torch stumbles over: that is what is looked for
        path = _unrecordable(network, image).removeprefix("model").removeprefix(".")
        return f"what {_described(model, path)} does"
    wanted = {_plain(name) for name in _named(error)}
    for graph in (program.graph, program.run_decompositions().graph):
        found = [(name, module_path(node)) for node in graph.nodes if (name := _operator(node)) in wanted]
        places = list(dict.fromkeys(found))
        if 0 < len(places) <= _MOST_PLACES:
            return ", ".join(f"{name} in {_described(model, path)}" for name, path in places)
    return ""


def _named(error: BaseException | None) -> Iterable[str]:
    while error is not None:
        for spelling in _SPELLINGS:
            yield from spelling.findall(str(error))
        error = error.__cause__ or error.__context__


def _operator(node: Any) -> str:
    packet = getattr(node.target, "overloadpacket", None)
    return _plain(str(packet).rpartition(".")[2]) if node.op == "call_function" and packet is not None else ""


def _plain(name: str) -> str:
    """The name without a library's prefix: aten's special_bessel_j0 is bessel_j0 in prims."""
    return name.removeprefix("special_").rstrip("_")


def _described(model: nn.Module, path: str) -> str:
    return f"{path or 'the network itself'} ({type(model.get_submodule(path)).__name__})"


@torch.no_grad()
def _unrecordable(network: nn.Module, image: Tensor) -> str:
    """Path of the innermost module that torch.export cannot record by itself, on the inputs that it gets."""
    given: dict[nn.Module, tuple[Any, ...]] = {}
    hooks = [
        module.register_forward_pre_hook(lambda module, inputs: given.setdefault(module, inputs) and None)
        for module in network.modules()
    ]
    try:
        network(image)
    finally:
        for hook in hooks:
            hook.remove()

    def descend(module: nn.Module, path: str) -> str:
        for name, child in module.named_children():
            inner = f"{path}.{name}".removeprefix(".")
            if child not in given:
                # A list of modules is never called itself.
                if (found := descend(child, inner)) != inner:
                    return found
            elif not _records(child, given[child]):
                return descend(child, inner)
        return path

    return descend(network, "")


def _records(module: nn.Module, inputs: tuple[Any, ...]) -> bool:
    try:
        torch.export.export(module, inputs)
    except Exception:
        return False
    return True
