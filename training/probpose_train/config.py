"""What a training run is: sources, augmentation, losses, schedule. Frozen, checked, saved into every checkpoint."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from probpose_edge.exceptions import InputError


@dataclass(frozen=True, kw_only=True)
class DataSource:
    """One training set.

    Attributes
    ----------
    annotations: COCO keypoint JSON, or ``"synth"`` for people drawn on the fly.
    images: folder of its pictures; an image entry with a ``shard`` number may also lie in ``images-<shard>.tar``
        of that folder. Empty for ``"synth"``.
    share: relative share of the training samples drawn from this set.
    visibility_labelled: False if the set never tells occluded from visible (v is only 0 or 2); its visibility labels
        are masked then.
    """

    annotations: str
    images: str = ""
    share: float = 1.0
    visibility_labelled: bool = True

    def __post_init__(self) -> None:
        if not self.share > 0:
            raise InputError(f"A data source's share must be positive, got {self.share}. Leave the source out instead.")
        if self.annotations != "synth" and not self.images:
            raise InputError(f"The source {self.annotations} needs its image folder. Write annotations.json:images/.")


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Ranges of the augmentation; probabilities in [0, 1].

    Attributes
    ----------
    flip, half_body, rotate, crop, colour, blur: probability of each step.
    scale: factors on the window size, log-uniform. shift: largest shift as a share of the window.
    rotation_deg: largest rotation. crop_keep: range of the kept share of the box's width and height.
    paste: probability that a piece of another training picture covers a part of the crop, as a passer-by or an
        obstacle would.
    """

    flip: float = 0.5
    half_body: float = 0.2
    rotate: float = 0.6
    rotation_deg: float = 40.0
    scale: tuple[float, float] = (0.7, 1.4)
    shift: float = 0.12
    crop: float = 0.4
    crop_keep: tuple[float, float] = (0.35, 0.95)
    colour: float = 0.8
    blur: float = 0.3
    paste: float = 0.0

    def __post_init__(self) -> None:
        for name in ("flip", "half_body", "rotate", "crop", "colour", "blur", "paste"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"augment.{name} is a probability in [0, 1], got {getattr(self, name)}.")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise InputError(f"augment.scale must be 0 < low <= high, got {self.scale}.")
        if not 0 < self.crop_keep[0] <= self.crop_keep[1] <= 1:
            raise InputError(f"augment.crop_keep must be 0 < low <= high <= 1, got {self.crop_keep}.")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights of the loss terms.

    Attributes
    ----------
    oks: dense OKS loss (ProbPose, eq. 3-4). smoothing: its share alpha of the Sobel term.
    alignment: sparsemax loss towards the normalised OKS map; its gradient does not vanish where sparsemax is zero.
    alignment_variance: smallest variance of that map in square cells; sharper goals are learnt more slowly.
    presence, visibility, quality: weights of the scalar heads.
    distill: weight of all terms towards a teacher whose maps and probabilities are known.
    kind: ``"probability"``, or ``"heatmap"`` for a plain heatmap network (see `probpose_train.heatmap_loss`), to which
        the terms above do not apply. heatmap_sigma: standard deviation of its Gaussians in cells.
    """

    oks: float = 1.0
    smoothing: float = 0.05
    alignment: float = 1.0
    alignment_variance: float = 1.5
    presence: float = 0.15
    visibility: float = 0.05
    quality: float = 0.1
    distill: float = 1.0
    kind: str = "probability"
    heatmap_sigma: float = 2.0

    def __post_init__(self) -> None:
        if self.kind not in ("probability", "heatmap"):
            raise InputError(f"loss.kind must be probability or heatmap, got {self.kind!r}.")
        if not self.heatmap_sigma > 0:
            raise InputError(f"loss.heatmap_sigma must be positive, got {self.heatmap_sigma}. ViTPose has 2 cells.")


CHOICES: dict[str, tuple[str, ...]] = {
    "device": ("auto", "cpu", "cuda"),
    "bf16": ("auto", "on", "off"),
    "schedule": ("cosine", "steps"),
    "select_by": ("Ex-AP", "mean-OKS"),
    "augment_on": ("cpu", "device"),
}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A run.

    Attributes
    ----------
    val_annotations, val_images: the set that judges every report and chooses the best checkpoint.
    val_crop_annotations, val_crop_images: a cropped set (`probpose-edge data crop`) reported beside it.
    skeleton: keypoints of the network: a preset or JSON file of `probpose_edge.read_skeleton`; without it those of
        `init_from`, else of the first annotated source.
    input_wh: size of the crops that a probpose-m sees, (192, 256) or, for a quarter of the work, (96, 128); None: as
        `init_from`, and (192, 256) without it.
    window_ratio: size of the activation window over the input window, for a new map of a model with two (``-dh``).
    samples: training crops over the whole run; `samples_per_epoch` is only the interval of reports and checkpoints.
    batch_size: samples per optimizer step, over all processes and parts. accumulate: parts that each process computes
        one after another before it steps.
    learning_rate: peak rate of the heads; the backbone learns at `backbone_rate` times it, and every block deeper by
        another factor of `layer_decay`.
    schedule: ``"cosine"`` to 1 % of the peak, or ``"steps"``: a tenth of it from each of the `milestones` on, which are
        shares of the run.
    drop_path: probability that the last transformer block is skipped for a sample; it falls linearly to the first.
    freeze: leading backbone blocks kept as they are, their batch statistics included; saves a third of the time of
        a run from ImageNet weights. Networks without such blocks ignore it.
    ema_decay: decay per step of the averaged weights, which are the ones judged and saved.
    select_by: metric of the validation set that chooses the best checkpoint, ``"Ex-AP"`` or ``"mean-OKS"``.
    patience: stop after so many reports without a better one; 0 never stops early.
    bf16: ``"auto"`` computes in bfloat16 where the hardware does so natively.
    compile: let torch.compile fuse the network; the first steps take minutes.
    augment_on: ``"cpu"`` makes the pixels in the loader, ``"device"`` where the network computes.
    teacher: a model of the family to learn from, see `probpose_train.distill`. teacher_sure: least presence times
        quality of a keypoint that a teacher in a deployed file may label.
    """

    sources: tuple[DataSource, ...]
    val_annotations: str = ""
    val_images: str = ""
    val_crop_annotations: str = ""
    val_crop_images: str = ""
    model: str = "probpose-m"
    skeleton: str = ""
    input_wh: tuple[int, int] | None = None
    backbone_weights: str = ""
    init_from: str = ""
    window_ratio: float = 1.25
    samples: int = 100_000
    samples_per_epoch: int = 4_000
    batch_size: int = 32
    accumulate: int = 1
    learning_rate: float = 1e-3
    backbone_rate: float = 0.5
    layer_decay: float = 1.0
    schedule: str = "cosine"
    milestones: tuple[float, ...] = (170 / 210, 200 / 210)
    drop_path: float = 0.0
    freeze: int = 0
    warmup_steps: int = 200
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    ema_decay: float = 0.998
    select_by: str = "Ex-AP"
    patience: int = 0
    device: str = "auto"
    bf16: str = "auto"
    compile: bool = False
    augment_on: str = "cpu"
    workers: int = 0
    seed: int = 0
    teacher: str = ""
    teacher_sure: float = 0.5
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    loss: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        if not self.sources:
            raise InputError("Training needs at least one data source. Pass --data annotations.json:images/.")
        for name in ("samples", "samples_per_epoch", "batch_size", "accumulate"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}.")
        if self.batch_size < 2 * self.accumulate or self.batch_size % self.accumulate:
            raise InputError(
                "batch_size must be at least 2 in each of its equal parts, because batch normalisation needs two "
                f"samples, got {self.batch_size} in {self.accumulate} part(s). Change batch_size or accumulate."
            )
        if not self.learning_rate > 0:
            raise InputError(f"learning_rate must be positive, got {self.learning_rate}.")
        for name in ("layer_decay", "backbone_rate"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"{name} must lie in (0, 1], got {getattr(self, name)}. 1 leaves the rate alone.")
        if not 0 <= self.drop_path < 1:
            raise InputError(f"drop_path is a probability in [0, 1), got {self.drop_path}.")
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                listed = ", ".join(choices[:-1]) + " or " + choices[-1]
                raise InputError(f"{name} must be {listed}, got {getattr(self, name)!r}.")
        if self.patience < 0 or (self.patience and not self.val_annotations):
            raise InputError(
                f"patience must be 0 or a number of reports on a validation set, got {self.patience}"
                f"{'' if self.val_annotations else ' without one'}. Pass --val too, or leave it out."
            )
        if self.val_crop_annotations and not self.val_annotations:
            raise InputError("A cropped validation set stands beside a plain one. Pass --val too.")
        plain = self.loss.kind == "heatmap"
        if (plain and (self.model not in ("probpose-m", "vitpose") or self.teacher)) or (
            self.model == "vitpose" and not plain
        ):
            raise InputError(
                f"Plain heatmaps are trained by a probpose-m or a vitpose, without a teacher, got loss.kind "
                f"{self.loss.kind!r}, model {self.model!r} and teacher {self.teacher!r}. Change one of them."
            )

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return max(1, self.samples // self.batch_size)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps between two reports."""
        return max(1, min(self.samples, self.samples_per_epoch) // self.batch_size)

    def to_json(self) -> str:
        """JSON document that `from_json` reads back."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> TrainConfig:
        """Read a document made by `to_json`, also of an earlier version; unknown keys are refused.

        Settings that an earlier version did not have take the values that mean what it did.
        """
        data = {"select_by": "mean-OKS", **json.loads(text)}
        data["sources"] = tuple(_build(DataSource, source) for source in data["sources"])
        data["augment"] = _build(AugmentConfig, data.get("augment", {}))
        data["loss"] = _build(LossConfig, data.get("loss", {}))
        return _build(cls, data)


def _build(cls: Any, data: dict[str, Any]) -> Any:
    known = {f.name for f in dataclasses.fields(cls)}
    if unknown := sorted(set(data) - known):
        raise InputError(f"{cls.__name__} has no settings {unknown}. Known: {', '.join(sorted(known))}.")
    return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in data.items()})


def parse_source(text: str) -> DataSource:
    """``annotations.json:images/[:share[:no-visibility]]`` or ``synth[:share]`` as given on the command line."""
    parts = text.split(":")
    try:
        if parts[0] == "synth":
            return DataSource(annotations="synth", share=float(parts[1]) if len(parts) > 1 else 1.0)
        if len(parts) < 2 or len(parts) > 4 or (len(parts) == 4 and parts[3] != "no-visibility"):
            raise ValueError("wrong number of parts")
        return DataSource(
            annotations=str(Path(parts[0])),
            images=str(Path(parts[1])),
            share=float(parts[2]) if len(parts) > 2 else 1.0,
            visibility_labelled=len(parts) < 4,
        )
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"A data source is annotations.json:images/[:share[:no-visibility]] or synth[:share], got {text!r}."
        ) from error
