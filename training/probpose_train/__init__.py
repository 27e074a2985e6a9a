"""Training and fine-tuning of the ProbPose family."""

from probpose_train.config import AugmentConfig, DataSource, LossConfig, TrainConfig, parse_source
from probpose_train.recipes import edge_config, published_config, recommended_config
from probpose_train.training_loop import resume, train

__all__ = [
    "AugmentConfig",
    "DataSource",
    "LossConfig",
    "TrainConfig",
    "edge_config",
    "parse_source",
    "published_config",
    "recommended_config",
    "resume",
    "train",
]
