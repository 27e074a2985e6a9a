"""Drawn people with full truth, for the demo, tests and the training mix."""

from __future__ import annotations

from probpose_eval.synth.scene import DrawnPerson, Scene, draw_scene
from probpose_eval.synth.set import windowed_keypoints, write_synth_set

__all__ = ["DrawnPerson", "Scene", "draw_scene", "windowed_keypoints", "write_synth_set"]
