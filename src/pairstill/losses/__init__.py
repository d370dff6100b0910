"""Training objectives, each stating the shapes and the kind of score that it takes."""

from pairstill.losses.attention_loss import AttentionLoss
from pairstill.losses.base import Loss
from pairstill.losses.catalogue import LOSSES, make_loss
from pairstill.losses.cross_entropy import DistillationLoss
from pairstill.losses.hidden_loss import HiddenLoss
from pairstill.losses.in_batch_cross_entropy import InBatchCrossEntropy
from pairstill.losses.in_batch_margin_mse import InBatchMarginMSE
from pairstill.losses.label_cross_entropy import LabelCrossEntropy
from pairstill.losses.lambda_loss import LambdaLoss
from pairstill.losses.layer_map import LayerMap
from pairstill.losses.layer_outputs import LayerOutputs, attention_scores
from pairstill.losses.listnet import ListNet
from pairstill.losses.listwise_kl import ListwiseKL
from pairstill.losses.logit_squared_error import LogitSquaredError
from pairstill.losses.margin_mse import MarginMSE
from pairstill.losses.mixture import Mixture
from pairstill.losses.prediction_loss import PredictionLoss
from pairstill.losses.probability_squared_error import ProbabilitySquaredError
from pairstill.losses.ranknet import RankNet
from pairstill.losses.targets import ScoreKind, Targets
from pairstill.losses.weighted_ranknet import WeightedRankNet

__all__ = [
    "LOSSES",
    "AttentionLoss",
    "DistillationLoss",
    "HiddenLoss",
    "InBatchCrossEntropy",
    "InBatchMarginMSE",
    "LabelCrossEntropy",
    "LambdaLoss",
    "LayerMap",
    "LayerOutputs",
    "ListNet",
    "ListwiseKL",
    "LogitSquaredError",
    "Loss",
    "MarginMSE",
    "Mixture",
    "PredictionLoss",
    "ProbabilitySquaredError",
    "RankNet",
    "ScoreKind",
    "Targets",
    "WeightedRankNet",
    "attention_scores",
    "make_loss",
]
