"""The networks of the ProbPose family, their checkpoints, and their deployable form."""

from probpose_models.checkpoint import build_model, checkpoint_contract, load_checkpoint, save_checkpoint
from probpose_models.deploy import OUTPUT_NAMES, Deployable
from probpose_models.initialise import Initial, load_initial
from probpose_models.mobilenet_v2 import load_imagenet_weights
from probpose_models.open_checkpoint import open_checkpoint
from probpose_models.outputs import PoseOutputs
from probpose_models.probpose_m import ProbPoseM
from probpose_models.probpose_s import ProbPoseS
from probpose_models.release import Release, load_release
from probpose_models.torch_runtime import TorchRuntime

__all__ = [
    "OUTPUT_NAMES",
    "Deployable",
    "Initial",
    "PoseOutputs",
    "ProbPoseM",
    "ProbPoseS",
    "Release",
    "TorchRuntime",
    "build_model",
    "checkpoint_contract",
    "load_checkpoint",
    "load_imagenet_weights",
    "load_initial",
    "load_release",
    "open_checkpoint",
    "save_checkpoint",
]
