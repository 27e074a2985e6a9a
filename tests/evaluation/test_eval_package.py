"""The public names of the evaluation package are frozen here: a change to them is a decision."""

from __future__ import annotations

from importlib.resources import files

import probpose_eval

PUBLIC = [
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


def test_public_names_are_frozen() -> None:
    assert sorted(probpose_eval.__all__) == sorted(PUBLIC)
    assert all(getattr(probpose_eval, name) is not None for name in PUBLIC)


def test_package_is_typed() -> None:
    assert files(probpose_eval).joinpath("py.typed").is_file()
