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
from probpose_eval.crop_set import CropRecipe, CropSet, crop_annotations, domain_shares, write_crop_set
from probpose_eval.pictures import read_picture

__all__ = [
    "AnnotationSet",
    "CropRecipe",
    "CropSet",
    "ImageEntry",
    "Person",
    "annotations_to_document",
    "crop_annotations",
    "domain_shares",
    "image_path",
    "parse_annotations",
    "read_annotations",
    "read_picture",
    "write_annotations",
    "write_crop_set",
]
