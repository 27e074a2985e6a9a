"""Names of the values a network computes: the same in every graph that is exported of it.

A range that was learned or measured in one graph finds its place in another by this name, whatever the target wants
its graph to look like.
"""

from __future__ import annotations

from torch.fx import Graph, Node

IMAGE = "image"
"""The normalised picture; targets compute it differently."""
_NETWORK = "model"
"""Name of the network inside `Deployable` and everything derived from it."""
_ALIKE = {"conv_transpose2d": "conv2d"}
"""A deconvolution may be written as a convolution."""


def module_path(node: Node) -> str:
    """Where in the network a value is computed, e.g. ``backbone.features.3.conv.0.2``; empty outside of it."""
    stack = node.meta.get("nn_module_stack")
    path = list(stack.values())[-1][0] if stack else ""
    path = path.removeprefix("L['self'].").partition("@")[0]
    return path.removeprefix(f"{_NETWORK}.") if path.startswith(f"{_NETWORK}.") else ""


def value_keys(graph: Graph) -> dict[Node, str]:
    """Node → name: the module that computes the value, the operator, and which of its kind in that module it is.

    In-place operators are called like the others; everything before the network is `IMAGE`.
    """
    keys: dict[Node, str] = {}
    seen: dict[tuple[str, str], int] = {}
    for node in graph.nodes:
        if node.op != "call_function":
            continue
        path = module_path(node)
        operator = str(getattr(node.target, "overloadpacket", node.target)).rpartition(".")[2].rstrip("_")
        operator = _ALIKE.get(operator, operator)
        number = seen.get((path, operator), 0)
        seen[path, operator] = number + 1
        keys[node] = f"{path}:{operator}.{number}" if path else IMAGE
    return keys
