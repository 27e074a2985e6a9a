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
from probpose_eval.evaluate import InstanceOks, evaluate, mean_oks
from probpose_eval.oks import OksRule, oks
from probpose_eval.pictures import read_picture
from probpose_eval.results import read_results

__all__ = [
    "AnnotationSet",
    "CropRecipe",
    "CropSet",
    "ImageEntry",
    "InstanceOks",
    "OksRule",
    "Person",
    "annotations_to_document",
    "crop_annotations",
    "domain_shares",
    "evaluate",
    "image_path",
    "mean_oks",
    "oks",
    "parse_annotations",
    "read_annotations",
    "read_picture",
    "read_results",
    "write_annotations",
    "write_crop_set",
]
