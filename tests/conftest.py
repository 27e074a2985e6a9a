"""Fixtures shared by all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of photographs, models and recorded reference values beside the checkout."""
    if not (SHARED / "reference").is_dir():
        pytest.skip("needs the folder of reference data beside the checkout (../shared), which is not here")
    return SHARED
