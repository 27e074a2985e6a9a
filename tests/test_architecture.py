"""Imports run one way: sdk ← evaluation, models ← training, quantization ← converters ← cli."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {
    "probpose_edge": "sdk",
    "probpose_eval": "evaluation",
    "probpose_models": "models",
    "probpose_train": "training",
    "probpose_quant": "quantization",
    "probpose_convert": "converters",
    "probpose_cli": "cli",
}
MAY_IMPORT = {
    "probpose_edge": set(),
    "probpose_eval": {"probpose_edge"},
    "probpose_models": {"probpose_edge"},
    "probpose_train": {"probpose_models", "probpose_eval", "probpose_edge"},
    "probpose_quant": {"probpose_models", "probpose_edge", "probpose_train"},
    "probpose_convert": {"probpose_quant", "probpose_models", "probpose_eval", "probpose_edge"},
    "probpose_cli": set(FOLDERS) - {"probpose_cli"},
}
HEAVY = {
    "torch",
    "torchao",
    "onnx",
    "onnxruntime",
    "coremltools",
    "litert_torch",
    "ai_edge_litert",
    "matplotlib",
    "jinja2",
    "jax",
}


def imported_packages(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("package", FOLDERS)
def test_imports_follow_the_arrows(package: str) -> None:
    sources = list((ROOT / FOLDERS[package] / package).rglob("*.py"))
    assert sources
    for path in sources:
        ours = imported_packages(path) & set(FOLDERS) - {package}
        assert ours <= MAY_IMPORT[package], f"{path.relative_to(ROOT)} imports {sorted(ours - MAY_IMPORT[package])}"


def test_no_module_is_longer_than_500_lines() -> None:
    for folder in (*FOLDERS.values(), "tests", "scripts", "examples"):
        for path in (ROOT / folder).rglob("*.py"):
            assert len(path.read_text().splitlines()) <= 500, path


@pytest.mark.parametrize("package", ["probpose_edge", "probpose_eval", "probpose_cli.main"])
def test_light_packages_load_nothing_heavy(package: str) -> None:
    program = f"import sys, {package}; print(' '.join(sorted(m for m in sys.modules if '.' not in m)))"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert package.split(".")[0] in loaded
    assert not HEAVY & set(loaded)


def test_converting_loads_torchao_for_int8_only() -> None:
    """It takes seconds and prints what users cannot use."""
    pytest.importorskip("torch", reason="needs the extra convert")
    program = (
        "import sys, probpose_convert.convert_all, probpose_convert.convert_router; print('torchao' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == ("False", "")
