"""One exception tree: everything this project raises on purpose derives from `ProbPoseError`.

Every message says the rule, what came instead, and the remedy.
"""

from __future__ import annotations


class ProbPoseError(Exception):
    """Base of every error raised on purpose by probpose-edge."""


class InputError(ProbPoseError, ValueError):
    """An argument (image, boxes, threshold …) breaks a documented rule."""


class ImageReadError(InputError):
    """A picture cannot be read or decoded."""


class SourceError(ProbPoseError):
    """A camera, stream or video cannot be opened or written, or stops giving frames before its end."""


class AnnotationError(ProbPoseError, ValueError):
    """An annotation or result file breaks the COCO keypoint conventions used here."""


class ModelFileError(ProbPoseError):
    """A model file is missing, unreadable, or not one of the supported formats."""


class MetadataError(ModelFileError):
    """A model file lacks the probpose-edge metadata, or carries another schema version."""


class CheckpointError(ProbPoseError):
    """A checkpoint is unreadable, incomplete, or belongs to another architecture."""


class MissingExtraError(ProbPoseError, ImportError):
    """An optional dependency is not installed.

    Parameters
    ----------
    purpose: what was asked for, e.g. ``"running .onnx files"``.
    module: the module that could not be imported, e.g. ``"onnxruntime"``.
    extra: the extra of this distribution that brings it, e.g. ``"onnx"``.
    """

    def __init__(self, purpose: str, module: str, extra: str) -> None:
        self.module, self.extra = module, extra
        super().__init__(
            f'{purpose} needs the package "{module}", which is not installed. '
            f'Install it with: pip install "probpose-edge[{extra}]"'
        )


class RuntimeUnavailableError(ProbPoseError):
    """A runtime exists for this format but not on this operating system or processor."""


class ConversionError(ProbPoseError):
    """A format cannot hold the model, or the written file does not reproduce it."""


class TrainingError(ProbPoseError):
    """Training cannot start or continue."""
