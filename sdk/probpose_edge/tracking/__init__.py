"""Persons from frame to frame, by their present keypoints."""
