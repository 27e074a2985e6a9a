"""Stop a robot unless both wrists of everybody are certainly outside its zone.

    python safety_zone.py [photo.jpg --box x1,y1,x2,y2 --zone x,y x,y x,y ...] [--risk 0.05] [--model FILE]

Without a picture it draws a person of its own: far from the zone, reaching into it, and cut off by the border.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

import cv2
import numpy as np

from probpose_edge import (
    PoseEstimator,
    Poses,
    ProbPoseError,
    credible_regions,
    draw_poses,
    read_image,
    zone_probability,
)

WRISTS = ("left_wrist", "right_wrist")


def may_move(poses: Poses, zone_px: np.ndarray, risk: float) -> bool:
    """Whether every wrist of every person is outside the zone but for `risk`; nobody in the picture is no answer."""
    if not len(poses):
        return False
    wrists = [poses.keypoint_index(name) for name in WRISTS]
    return bool(zone_probability(poses, zone_px).certainly_elsewhere(risk)[:, wrists].all())


def explain(poses: Poses, zone_px: np.ndarray, risk: float) -> None:
    """Print why."""
    found = zone_probability(poses, zone_px)
    for person in range(len(poses)):
        for name in WRISTS:
            k = poses.keypoint_index(name)
            print(
                f"  person {person} {name:12s} presence {poses.presence[person, k]:.3f}  in the zone "
                f"{found.inside[person, k]:.3f}, at most {found.at_most[person, k]:.3f}  "
                + ("elsewhere" if found.at_most[person, k] <= risk else "NOT certainly elsewhere")
            )
    print("  the robot may move" if may_move(poses, zone_px, risk) else "  the robot STOPS")


def draw(image: np.ndarray, poses: Poses, zone_px: np.ndarray, estimator: PoseEstimator, risk: float) -> np.ndarray:
    """The picture with poses, the zone, and the regions in which the wrists are with a probability of 90 percent."""
    canvas = draw_poses(image, poses, estimator.contract)
    colour = (60, 160, 60) if may_move(poses, zone_px, risk) else (40, 40, 220)
    cv2.polylines(canvas, [np.rint(zone_px).astype(np.int32)], True, colour, 4)
    regions = credible_regions(poses, 0.9)
    for person in range(len(poses)):
        for name in WRISTS:
            rings = regions.polygons(person, poses.keypoint_index(name))
            cv2.polylines(canvas, [np.rint(ring).astype(np.int32) for ring in rings], True, (0, 200, 255), 1)
    return canvas


def drawn_pictures() -> list[tuple[str, np.ndarray, np.ndarray, np.ndarray]]:
    """Names, pictures, boxes and zones: a drawn person far from the zone, reaching into it, and cut off by a border."""
    from probpose_eval.synth import draw_scene

    def scene(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        drawn = draw_scene(np.random.default_rng(seed), persons=(1, 1), cut_share=0.0, occluder_share=0.0)
        person = drawn.persons[0]
        return drawn.image, person.bbox_xyxy, person.keypoints[[9, 10], :2]

    image, (x1, y1, x2, y2), _ = scene(8)
    far = np.array([[20, 60], [x1 - 90, 20], [x1 - 90, 440], [20, 460]])
    near = np.array([[x1 - 30, y1 + 60], [x1 + 70, y1 + 60], [x1 + 70, y2 - 60], [x1 - 30, y2 - 60]])
    box = np.array([[x1, y1, x2, y2]])
    # The left wrist is beyond the border, where the zone goes on.
    other, (x1, y1, x2, y2), wrists = scene(9)
    cut = int(wrists[0, 0]) - 25
    border = np.array([[cut - 5, 0], [cut + 300, 0], [cut + 300, 480], [cut - 5, 480]])
    return [
        ("far", image, box, far),
        ("near", image, box, near),
        ("cut", np.ascontiguousarray(other[:, :cut]), np.array([[x1, y1, cut, y2]]), border),
    ]


def numbers(count: int) -> Callable[[str], list[float]]:
    """What reads `count` numbers with commas between them from the command line."""

    def read(text: str) -> list[float]:
        values = [float(value) for value in text.split(",")]
        if len(values) != count:
            raise argparse.ArgumentTypeError(f"{count} numbers with commas between are needed, got {text}")
        return values

    return read


def main() -> None:
    """Read or draw pictures, decide, print why, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", nargs="?")
    parser.add_argument(
        "--box", type=numbers(4), help="x1,y1,x2,y2 of the person; without it the one main person is looked for"
    )
    parser.add_argument("--zone", type=numbers(2), nargs="+", help="corners x,y of the zone in pixels")
    parser.add_argument("--risk", type=float, default=0.05)
    parser.add_argument("--model", help="a calibrated model file; the shipped one if left out")
    options = parser.parse_args()
    if options.picture and not options.zone:
        parser.error("a picture needs its --zone")
    if options.picture:
        zone = np.array(options.zone)
        box = np.array([options.box]) if options.box else None
        cases = [("picture", read_image(options.picture), box, zone)]
    else:
        cases = drawn_pictures()
    with PoseEstimator.open(options.model) as estimator:
        for name, image, boxes, zone in cases:
            poses = estimator(image, boxes, return_maps="calibrated")
            print(f"{name}:")
            explain(poses, zone, options.risk)
            cv2.imwrite(f"safety-zone-{name}.png", draw(image, poses, zone, estimator, options.risk))


if __name__ == "__main__":
    try:
        main()
    except ProbPoseError as error:
        sys.exit(f"error: {error}")
