"""Which keypoints a run trains."""

from __future__ import annotations

from probpose_edge.exceptions import InputError
from probpose_edge.metadata import ModelContract
from probpose_edge.skeleton import COCO_17, Skeleton
from probpose_edge.skeleton_file import read_skeleton
from probpose_eval.coco import read_annotations, skeleton_of
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


def with_run_skeleton(contract: ModelContract, config: TrainConfig) -> ModelContract:
    """The contract of the checkpoint a run starts from, with limbs, flip pairs and sigmas of the run's skeleton.

    Without a skeleton in the configuration the checkpoint's own stands. Raises `InputError` for other keypoints.
    """
    if not config.skeleton:
        return contract
    skeleton = read_skeleton(config.skeleton)
    if skeleton.keypoint_names != contract.keypoint_names:
        raise InputError(
            f"--init-from must hold the keypoints of --skeleton ({', '.join(skeleton.keypoint_names[:4])}, …), but "
            f"{config.init_from} holds {', '.join(contract.keypoint_names[:4])}, …. Start without it, from "
            "--backbone-weights."
        )
    return contract.replace(skeleton=skeleton.edges, flip_pairs=skeleton.flip_pairs, sigmas=skeleton.sigmas)
