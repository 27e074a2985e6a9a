"""The page on recalibration: its rows, on drawn people."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from probpose_edge import PoseEstimator
from probpose_eval.annotations.coco import read_annotations
from probpose_eval.calibration.calibration_samples import PicturedSet
from probpose_eval.synth.set import write_synth_set


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "scripts"))
    import recalibration_page

    return recalibration_page


def test_damage_flips_decisions_and_spares_places(page: Any, tmp_path: Path) -> None:
    annotations = write_synth_set(tmp_path, count=4, seed=5, width=320, height=320, persons=(1, 2))
    data = PicturedSet(annotations=read_annotations(annotations), images_dir=tmp_path / "images")
    with PoseEstimator.open(threads=1) as whole:
        contract = page.as_converted(whole.contract, whole.contract.replace(presence_threshold=0.7))
        assert contract.presence_threshold == 0.7
        assert contract.format == whole.contract.format
        damaged = page.DamagedPresence(whole.runtime)
        crops = np.zeros((1, 256, 192, 3), dtype=np.uint8)
        p, halved = (each.run(crops).presence[0].astype(float) for each in (whole.runtime, damaged))
        np.testing.assert_allclose(np.log(halved / (1 - halved)), np.log(p / (1 - p)) / 2, atol=1e-3)
        rows = {"whole": whole, "damaged": PoseEstimator(damaged, whole.contract)}
        first, second = page.measure(rows, data)
    assert first[:1] + first[2:4] == ["whole", "0.00", "0.00"]
    assert float(second[2]) > 1
    assert float(second[3]) > 1
    assert first[4] == second[4], "coverage of the maps"
    assert len(first) == len(page.HEAD)
