"""Evaluation of pose estimators: COCO reading, OKS, AP, Ex-OKS, Ex-AP, cropped sets and reports."""

from __future__ import annotations

from probpose_eval.annotations.coco import (
    AnnotationSet,
    ImageEntry,
    Person,
    annotations_to_document,
    image_path,
    labelled_persons,
    parse_annotations,
    read_annotations,
    skeleton_of,
    with_skeleton,
    write_annotations,
)
from probpose_eval.annotations.crop_set import CropRecipe, CropSet, crop_annotations, domain_shares, write_crop_set
from probpose_eval.benchmark.latency import Latency, Machine, describe_machine, measure_latency
from probpose_eval.calibration.shared_pictures import count_shared_pictures
from probpose_eval.detections import Detections, read_detections
from probpose_eval.evaluate import InstanceOks, evaluate, mean_oks
from probpose_eval.evaluation_set import EvaluationSet, load_evaluation_set
from probpose_eval.metrics.best_threshold import best_threshold
from probpose_eval.metrics.bootstrap import Interval, bootstrap, bootstrap_difference
from probpose_eval.metrics.model_scores import ModelScores
from probpose_eval.metrics.oks import OksRule, oks
from probpose_eval.metrics.presence import PresenceAccuracy, presence_accuracy
from probpose_eval.metrics.resample_observations import resample_observations
from probpose_eval.metrics.score_observations import score_observations
from probpose_eval.observations.drift import Drift, measure_drift
from probpose_eval.observations.observe import MapDrift, Observations, observe_set, results_of
from probpose_eval.observations.observed_results import results_at
from probpose_eval.pictures import read_picture
from probpose_eval.predict import CropBatch, iterate_crops, predict_set, predict_set_with_all, results_from_crops
from probpose_eval.predict_detections import predict_detections
from probpose_eval.report.build_report import ReportConfig, ReportEntry, build_report, build_report_and_pictures
from probpose_eval.report.draw_drift import draw_drift
from probpose_eval.report.limits import Limit, parse_limits
from probpose_eval.report.report import Report, read_report
from probpose_eval.report.report_html import report_to_html
from probpose_eval.report.report_markdown import report_to_markdown
from probpose_eval.report.write_report import write_report
from probpose_eval.results import read_results

__all__ = [
    "AnnotationSet",
    "CropBatch",
    "CropRecipe",
    "CropSet",
    "Detections",
    "Drift",
    "EvaluationSet",
    "ImageEntry",
    "InstanceOks",
    "Interval",
    "Latency",
    "Limit",
    "Machine",
    "MapDrift",
    "ModelScores",
    "Observations",
    "OksRule",
    "Person",
    "PresenceAccuracy",
    "Report",
    "ReportConfig",
    "ReportEntry",
    "annotations_to_document",
    "best_threshold",
    "bootstrap",
    "bootstrap_difference",
    "build_report",
    "build_report_and_pictures",
    "count_shared_pictures",
    "crop_annotations",
    "describe_machine",
    "domain_shares",
    "draw_drift",
    "evaluate",
    "image_path",
    "iterate_crops",
    "labelled_persons",
    "load_evaluation_set",
    "mean_oks",
    "measure_drift",
    "measure_latency",
    "observe_set",
    "oks",
    "parse_annotations",
    "parse_limits",
    "predict_detections",
    "predict_set",
    "predict_set_with_all",
    "presence_accuracy",
    "read_annotations",
    "read_detections",
    "read_picture",
    "read_report",
    "read_results",
    "report_to_html",
    "report_to_markdown",
    "resample_observations",
    "results_at",
    "results_from_crops",
    "results_of",
    "score_observations",
    "skeleton_of",
    "with_skeleton",
    "write_annotations",
    "write_crop_set",
    "write_report",
]
