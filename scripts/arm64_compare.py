"""How far the answers of one processor are from those of another, on the same files and pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probpose_edge import box_to_window
from probpose_eval.synth import draw_scene

MOST_MOVED_PX = 0.5
"""A keypoint may move by this in pixels of the crop: far less than the network's own errors, several times the rounding
of other kernels."""
SEEDS = (34, 32, 6, 20, 10, 8, 35, 18, 13, 36, 17, 11)
"""Of the drawn persons 0 to 39 (odd ones are cut off by the border) those whose present keypoints the shipped .onnx
file promises most on x86-64, by the median, surest first. The map of a keypoint that the network cannot find is flat,
and other rounding moves its peak far."""


@dataclass(frozen=True, kw_only=True)
class FileDifference:
    """One file on two processors.

    within: share of the keypoints compared that moved by at most `MOST_MOVED_PX`.
    moved_px: the largest distance between the same keypoint's places, in pixels of the crop, of those whose map
        promises an OKS of at least `sure_oks` on the reference; moved_all_px of all.
    compared, keypoints: how many were sure, and how many there are.
    shifted: the largest difference by head: presence, visibility, quality, expected OKS.
    flipped: keypoints that are present on one side only.
    reference_s, found_s: time of one crop; opened_s: of opening the file on the other processor.
    self_test: whether the golden self-test of the file passed there.
    """

    name: str
    within: float
    moved_px: float
    moved_all_px: float
    compared: int
    keypoints: int
    shifted: dict[str, float]
    flipped: int
    reference_s: float
    found_s: float
    opened_s: float
    self_test: bool

    @property
    def same(self) -> bool:
        return self.moved_px <= MOST_MOVED_PX and self.flipped == 0 and self.self_test


def write_drawn_pictures(path: Path, count: int) -> list[NDArray[np.float64]]:
    """Pictures with one drawn person each, the surest first, and their boxes, (1, 4) xyxy, which are returned.

    Drawn once, so that both processors get the same pixels.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for index, seed in enumerate(SEEDS[:count]):
        scene = draw_scene(np.random.default_rng(seed), persons=(1, 1), cut_share=float(seed % 2), occluder_share=0.0)
        arrays[f"picture_{index}"] = scene.image
        arrays[f"boxes_{index}"] = scene.persons[0].bbox_xyxy[None]
    np.savez_compressed(path, **arrays)
    return [arrays[f"boxes_{index}"] for index in range(count)]


def differences(
    reference: dict[str, Any], found: dict[str, Any], boxes: list[NDArray[np.float64]], sure_oks: float
) -> list[FileDifference]:
    """Compare what `pose_numbers.py` printed on both sides, file by file.

    boxes: (N, 4) xyxy per picture. Raises `ValueError` where one side has other files or pictures.
    """
    if reference["files"].keys() != found["files"].keys():
        raise ValueError(f"The two sides ran other files: {list(reference['files'])} and {list(found['files'])}.")
    return [
        _difference(name, known, found["files"][name], boxes, sure_oks) for name, known in reference["files"].items()
    ]


def _difference(
    name: str, known: dict[str, Any], other: dict[str, Any], boxes: list[NDArray[np.float64]], sure_oks: float
) -> FileDifference:
    if not len(known["pictures"]) == len(other["pictures"]) == len(boxes):
        raise ValueError(
            f"{name}: {len(known['pictures'])} and {len(other['pictures'])} pictures for {len(boxes)} boxes."
        )

    def values(side: dict[str, Any], head: str) -> NDArray[np.float64]:
        return np.concatenate([np.array(picture[head], dtype=np.float64) for picture in side["pictures"]])

    width, height = known["input_wh"]
    windows = np.concatenate([box_to_window(box, (width, height), known["padding"]) for box in boxes])
    to_crop = np.array([width - 1, height - 1]) / windows[:, None, 2:]
    moved = np.linalg.norm((values(other, "keypoints") - values(known, "keypoints")) * to_crop, axis=-1)
    sure = values(known, "expected_oks") >= sure_oks
    heads = ("presence", "visibility", "quality", "expected_oks")
    return FileDifference(
        name=name,
        within=float((moved[sure] <= MOST_MOVED_PX).mean()) if sure.any() else 1.0,
        moved_px=float(moved[sure].max(initial=0)),
        moved_all_px=float(moved.max(initial=0)),
        compared=int(sure.sum()),
        keypoints=sure.size,
        shifted={head: float(np.abs(values(other, head) - values(known, head)).max()) for head in heads},
        flipped=int((values(other, "present") != values(known, "present")).sum()),
        reference_s=known["crop_s"],
        found_s=other["crop_s"],
        opened_s=other["opened_s"],
        self_test=bool(other["self_test"]["passed"]),
    )


def table(rows: list[FileDifference], reference: dict[str, Any], found: dict[str, Any]) -> str:
    """Versions of both sides and one line per file, as markdown."""
    sides = [
        f"{side['machine']}: Python {side['python']}, "
        + ", ".join(f"{name} {number}" for name, number in side["packages"].items())
        for side in (reference, found)
    ]
    cells = [
        {
            "file": row.name,
            "keypoints compared": f"{row.compared} of {row.keypoints}",
            f"within {MOST_MOVED_PX} px": f"{100 * row.within:.0f} %",
            "moved at most": f"{row.moved_px:.2f} px",
            "of all keypoints": f"{row.moved_all_px:.2f} px",
            **{name.replace("_", " "): f"{shift:.4f}" for name, shift in row.shifted.items()},
            "present or not": "same" if row.flipped == 0 else f"{row.flipped} differ",
            "self-test": "passed" if row.self_test else "**failed**",
            f"one crop {reference['machine']}": f"{1000 * row.reference_s:.0f} ms",
            f"one crop {found['machine']}": f"{row.found_s:.1f} s",
            "opened": f"{row.opened_s:.1f} s",
        }
        for row in rows
    ]
    lines = [
        f"| {' | '.join(line)} |" for line in (cells[0], ["---"] * len(cells[0]), *(row.values() for row in cells))
    ]
    return "\n".join([*sides, "", *lines]) + "\n"
