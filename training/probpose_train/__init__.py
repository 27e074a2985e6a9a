"""Training and fine-tuning of the ProbPose family."""

from probpose_train.config import AugmentConfig, DataSource, LossConfig, TrainConfig, parse_source
from probpose_train.training_loop import resume, train

__all__ = ["AugmentConfig", "DataSource", "LossConfig", "TrainConfig", "parse_source", "resume", "train"]
