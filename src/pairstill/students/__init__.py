"""Models that score a tuple in three steps: `encode`, `prepare`, `score`."""

from pairstill.students.base import Prepared, Student
from pairstill.students.cross_encoder import CrossEncoder, CrossEncoderConfig
from pairstill.students.de_cos import DECos, DECosConfig
from pairstill.students.de_ffnn import DEFFNN, DEFFNNConfig
from pairstill.students.dipair_ffnn import DiPairFFNN, DiPairFFNNConfig
from pairstill.students.dipair_tsf import DiPairTSF, DiPairTSFConfig
from pairstill.students.persistence import load_student, make_student

__all__ = [
    "DEFFNN",
    "CrossEncoder",
    "CrossEncoderConfig",
    "DECos",
    "DECosConfig",
    "DEFFNNConfig",
    "DiPairFFNN",
    "DiPairFFNNConfig",
    "DiPairTSF",
    "DiPairTSFConfig",
    "Prepared",
    "Student",
    "load_student",
    "make_student",
]
