"""Estimate a pose with the shipped INT8 model and say which keypoints are not in view.

    python quickstart.py [photo.jpg]

Without a picture it draws a person of its own.
"""

from __future__ import annotations

import sys

import cv2
import numpy as np

from probpose_edge import PoseEstimator, ProbPoseError, draw_poses, read_image


def drawn_person() -> np.ndarray:
    """A picture of a drawn person, cut off by the border."""
    from probpose_eval.synth import draw_scene

    rng = np.random.default_rng(11)
    return draw_scene(rng, width=360, height=480, persons=(1, 1), cut_share=1.0, occluder_share=0.0, yaw=0.0).image


def main() -> None:
    """Read or draw a picture, estimate, print, draw."""
    image = read_image(sys.argv[1]) if len(sys.argv) > 1 else drawn_person()
    with PoseEstimator.open() as estimator:
        # Two passes find the one main person; pass boxes (N, 4) xyxy for several.
        poses = estimator(image, return_maps=True)
        for name, xy, presence, present in zip(
            poses.keypoint_names, poses.keypoints[0], poses.presence[0], poses.present[0], strict=True
        ):
            place = f"at ({xy[0]:6.1f}, {xy[1]:6.1f}) px" if present else "not in view"
            print(f"{name:15s} {place:26s} presence {presence:.2f}")
        cv2.imwrite("quickstart.png", draw_poses(image, poses, estimator.contract, expand=True))
    print("drawn: quickstart.png")


if __name__ == "__main__":
    try:
        main()
    except ProbPoseError as error:
        sys.exit(f"error: {error}")
