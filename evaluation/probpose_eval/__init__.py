"""Evaluation of pose estimators: COCO reading, OKS, AP, Ex-OKS, Ex-AP, cropped sets and reports."""

from __future__ import annotations

from probpose_eval.coco import (
    AnnotationSet,
    ImageEntry,
    Person,
    annotations_to_document,
    image_path,
    parse_annotations,
    read_annotations,
    write_annotations,
)

__all__ = [
    "AnnotationSet",
    "ImageEntry",
    "Person",
    "annotations_to_document",
    "image_path",
    "parse_annotations",
    "read_annotations",
    "write_annotations",
]
