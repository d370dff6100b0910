"""Models that score a tuple in three steps: `encode`, `prepare`, `score`."""

from pairstill.students.base import Prepared, Student
from pairstill.students.bert2dnn import BERT2DNN, BERT2DNNConfig
from pairstill.students.bert_dot import BERTDot, BERTDotConfig
from pairstill.students.colbert import ColBERT, ColBERTConfig
from pairstill.students.cross_encoder import CrossEncoder, CrossEncoderConfig
from pairstill.students.de_cos import DECos, DECosConfig
from pairstill.students.de_ffnn import DEFFNN, DEFFNNConfig
from pairstill.students.dipair_ffnn import DiPairFFNN, DiPairFFNNConfig
from pairstill.students.dipair_tsf import DiPairTSF, DiPairTSFConfig
from pairstill.students.persistence import load_student, make_student
from pairstill.students.poly_encoder import PolyEncoder, PolyEncoderConfig
from pairstill.students.prettr import PreTTR, PreTTRConfig
from pairstill.students.tk import TK, TKConfig
from pairstill.students.twinbert_cos import TwinBERTCos, TwinBERTCosConfig
from pairstill.students.twinbert_res import TwinBERTRes, TwinBERTResConfig

__all__ = [
    "BERT2DNN",
    "DEFFNN",
    "TK",
    "BERT2DNNConfig",
    "BERTDot",
    "BERTDotConfig",
    "ColBERT",
    "ColBERTConfig",
    "CrossEncoder",
    "CrossEncoderConfig",
    "DECos",
    "DECosConfig",
    "DEFFNNConfig",
    "DiPairFFNN",
    "DiPairFFNNConfig",
    "DiPairTSF",
    "DiPairTSFConfig",
    "PolyEncoder",
    "PolyEncoderConfig",
    "PreTTR",
    "PreTTRConfig",
    "Prepared",
    "Student",
    "TKConfig",
    "TwinBERTCos",
    "TwinBERTCosConfig",
    "TwinBERTRes",
    "TwinBERTResConfig",
    "load_student",
    "make_student",
]
