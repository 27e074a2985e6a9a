"""Which keypoints a run trains."""

from __future__ import annotations

from probpose_edge.contract.metadata import ModelContract
from probpose_edge.skeletons.skeleton import COCO_17, Skeleton
from probpose_edge.skeletons.skeleton_file import read_skeleton
from probpose_eval.annotations.coco import read_annotations, skeleton_of
from probpose_models.change_keypoints import change_keypoints
from probpose_models.probpose_m import ProbPoseM
from probpose_models.probpose_s import ProbPoseS
from probpose_train.config import TrainConfig


def skeleton_of_run(config: TrainConfig) -> Skeleton:
    """The skeleton named in the configuration; else that of the first annotated source; else COCO's 17 keypoints.

    Raises `InputError` or `AnnotationError` for a skeleton that cannot be read or is not whole.
    """
    if config.skeleton:
        return read_skeleton(config.skeleton)
    for source in config.sources:
        if source.annotations != "synth":
            return skeleton_of(read_annotations(source.annotations))
    return COCO_17


def with_run_skeleton(
    model: ProbPoseM | ProbPoseS, contract: ModelContract, config: TrainConfig
) -> tuple[ProbPoseM | ProbPoseS, ModelContract, tuple[str, ...]]:
    """The network a run starts from, its contract, and the keypoints it must learn from fresh weights.

    Without a skeleton in the configuration the keypoints stay those of the checkpoint. With one, limbs, flip pairs and
    sigmas are the skeleton's; other keypoints than the checkpoint's are exchanged (see `change_keypoints`).
    """
    if not config.skeleton:
        return model, contract, ()
    skeleton = read_skeleton(config.skeleton)
    shape = {"skeleton": skeleton.edges, "flip_pairs": skeleton.flip_pairs, "sigmas": skeleton.sigmas}
    names = skeleton.keypoint_names
    if names == contract.keypoint_names:
        return model, contract.replace(**shape), ()
    changed, origin = change_keypoints(model, contract.keypoint_names, names)
    contract = contract.replace(
        **shape,
        keypoint_names=names,
        presence_scale=tuple(contract.presence_scale[index] if index >= 0 else 1.0 for index in origin),
        presence_bias=tuple(contract.presence_bias[index] if index >= 0 else 0.0 for index in origin),
        quality_scale=tuple(contract.quality_scale[index] if index >= 0 else 1.0 for index in origin),
        quality_bias=tuple(contract.quality_bias[index] if index >= 0 else 0.0 for index in origin),
        calibration={},
    )
    return changed, contract, tuple(name for name, index in zip(names, origin, strict=True) if index < 0)
