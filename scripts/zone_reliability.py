"""Do keypoints lie in zones as often as `zone_probability` says?

For every labelled person of the sets, boxes as annotated, zones are drawn (seeded): rectangles whose centers lie in the
activation window or up to a quarter of it beyond, with sides of 0.1 to 0.6 of it. Compared is the probability that a
keypoint is in the zone and the window with whether it is; and, of the keypoints said to be certainly elsewhere at a
risk, how many are in the zone after all. Keypoints without a label are left out; absent ones whose place is not known
(v = 3) only in the second table, where the zone could hold them.

    python scripts/zone_reliability.py MODEL annotations.json:images/ ... [--zones 4] [--seed 0]
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np

from probpose_edge import PoseEstimator, zone_probability
from probpose_eval.annotations.coco import read_annotations
from probpose_eval.annotations.windows import inside_windows
from probpose_eval.data_source import split_source
from probpose_eval.predict import iterate_crops

BINS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
RISKS = (0.01, 0.02, 0.05, 0.1)


def zones_around(window: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 4, 2) corners of rectangles, px."""
    center = window[:2] + rng.uniform(-0.75, 0.75, (count, 2)) * window[2:]
    half = rng.uniform(0.05, 0.3, (count, 2)) * window[2:]
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    return center[:, None] + corners * half[:, None]


def main() -> None:
    """Run the model, draw zones, count, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("sets", nargs="+")
    parser.add_argument("--zones", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = np.random.default_rng(options.seed)
    rows = []
    with PoseEstimator.open(options.model, threads=1) as estimator:
        contract = estimator.contract
        for text in options.sets:
            path, images = split_source(text)
            for crops in iterate_crops(
                read_annotations(path), images, input_wh=contract.input_wh, padding=contract.padding
            ):
                poses = estimator.predict_crops(crops.crops, crops.windows, return_maps="calibrated")
                for n, person in enumerate(crops.persons):
                    places, v = person.keypoints[:, :2], person.keypoints[:, 2]
                    present = (v > 0) & (v < 3) & inside_windows(places[None], poses.windows[n : n + 1])[0]
                    for zone in zones_around(poses.windows[n], options.zones, rng):
                        found = zone_probability(poses.select([n]), zone)
                        in_zone = np.all((places >= zone.min(axis=0)) & (places <= zone.max(axis=0)), axis=1)
                        # Nobody knows where a keypoint with v = 3 is; it is not in the window.
                        where = np.where(v == 3, np.nan, in_zone)
                        rows.append(
                            np.stack([found.inside[0], found.at_most[0], present & in_zone, where], axis=1)[v > 0]
                        )
    said, at_most, there, where = np.concatenate(rows).T
    print(f"{options.model.name}: {len(said)} keypoints and zones, {there.mean():.3f} of them in it")
    print("| probability said | cases | mean said | in the zone |\n| --- | --- | --- | --- |")
    for low, high in itertools.pairwise(BINS):
        chosen = (said >= low) & ((said < high) | (high == 1))
        if chosen.any():
            print(f"| {low:g} to {high:g} | {chosen.sum()} | {said[chosen].mean():.3f} | {there[chosen].mean():.3f} |")
    known = np.isfinite(where)
    elsewhere = known & (where == 0)
    print("| risk | certainly elsewhere | in the zone after all | of the keypoints elsewhere, recognised |")
    print("| --- | --- | --- | --- |")
    for risk in RISKS:
        sure = known & (at_most <= risk)
        found_share = (sure & elsewhere).sum() / elsewhere.sum()
        print(f"| {risk:g} | {sure.sum()} | {where[sure].mean():.4f} | {found_share:.3f} |")


if __name__ == "__main__":
    main()
