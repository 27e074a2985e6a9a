"""probpose-edge: human poses that say which keypoints are in view, on phones and small computers."""

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.contract.read_contract import read_contract
from probpose_edge.decode import decode_heatmaps, decode_maps, expected_oks_maps
from probpose_edge.detectors.detect import Detections, Detector, detect
from probpose_edge.detectors.detect_onnx import OnnxDetector
from probpose_edge.draw import draw_poses
from probpose_edge.estimator import PoseEstimator, calibrate_presence
from probpose_edge.exceptions import (
    AnnotationError,
    CheckpointError,
    ConversionError,
    ImageReadError,
    InputError,
    MetadataError,
    MissingExtraError,
    ModelFileError,
    ProbPoseError,
    RuntimeUnavailableError,
    SourceError,
    TrainingError,
)
from probpose_edge.images import read_image, to_bgr
from probpose_edge.live import LiveResult, LiveStream
from probpose_edge.poses import Poses
from probpose_edge.probabilities.calibrated_maps import calibrated_maps
from probpose_edge.probabilities.credible_regions import CredibleRegions, credible_regions
from probpose_edge.probabilities.map_covariance import map_covariances
from probpose_edge.probabilities.presence_rates import PresenceThreshold, presence_threshold_for
from probpose_edge.probabilities.zone_probability import ZoneProbability, zone_probability
from probpose_edge.probmap import sparsemax_maps
from probpose_edge.routing.flip_test import flip_test
from probpose_edge.routing.routed_estimator import RoutedEstimator, Routing
from probpose_edge.routing.router import Router
from probpose_edge.runtimes.base import RawOutputs, Runtime
from probpose_edge.runtimes.open_runtime import open_runtime
from probpose_edge.sinks.coco_results import poses_to_coco
from probpose_edge.sinks.show_window import LiveWindow
from probpose_edge.sinks.write_picture import write_picture
from probpose_edge.sinks.write_results import CocoResults, JsonLines
from probpose_edge.sinks.write_video import VideoFile
from probpose_edge.skeletons.skeleton import COCO_17, Skeleton
from probpose_edge.skeletons.skeleton_file import read_skeleton, write_skeleton
from probpose_edge.skeletons.skeleton_presets import CROWDPOSE_14, MPII_16, WHOLEBODY_133
from probpose_edge.sources.frames import Frame, FrameSource
from probpose_edge.sources.open_source import open_source
from probpose_edge.tracking.track import PoseTracker, TrackedPoses, TrackerSettings
from probpose_edge.version import __version__
from probpose_edge.weights import shipped_model
from probpose_edge.window import (
    box_to_window,
    cells_to_image,
    crop_windows,
    image_to_cells,
    window_to_crop_matrix,
)

__all__ = [
    "COCO_17",
    "CROWDPOSE_14",
    "MPII_16",
    "WHOLEBODY_133",
    "AnnotationError",
    "CheckpointError",
    "CocoResults",
    "ConversionError",
    "CredibleRegions",
    "Detections",
    "Detector",
    "Frame",
    "FrameSource",
    "ImageReadError",
    "InputError",
    "JsonLines",
    "LiveResult",
    "LiveStream",
    "LiveWindow",
    "MetadataError",
    "MissingExtraError",
    "ModelContract",
    "ModelFileError",
    "OnnxDetector",
    "PoseEstimator",
    "PoseTracker",
    "Poses",
    "PresenceThreshold",
    "ProbPoseError",
    "RawOutputs",
    "RoutedEstimator",
    "Router",
    "Routing",
    "Runtime",
    "RuntimeUnavailableError",
    "Skeleton",
    "SourceError",
    "TrackedPoses",
    "TrackerSettings",
    "TrainingError",
    "VideoFile",
    "ZoneProbability",
    "__version__",
    "box_to_window",
    "calibrate_presence",
    "calibrated_maps",
    "cells_to_image",
    "credible_regions",
    "crop_windows",
    "decode_heatmaps",
    "decode_maps",
    "detect",
    "draw_poses",
    "expected_oks_maps",
    "flip_test",
    "image_to_cells",
    "map_covariances",
    "open_runtime",
    "open_source",
    "poses_to_coco",
    "presence_threshold_for",
    "read_contract",
    "read_image",
    "read_skeleton",
    "shipped_model",
    "sparsemax_maps",
    "to_bgr",
    "window_to_crop_matrix",
    "write_picture",
    "write_skeleton",
    "zone_probability",
]
