"""A tuple set, systems and tiny students for the tests of analyses."""

import numpy as np

from evaluation_samples import synthetic, tiny_student, tuple_set
from pairstill.evaluation.analyses.inputs import Inputs
from pairstill.metrics.base import Relevance
from pairstill.students.persistence import make_student, parse_config


def sample_inputs(kind="graded", **more):
    """Inputs over the test split with a teacher, two students, a similarity and a floor."""
    one = tuple_set(kind, **more)
    rows = {"test": one.split("test")}
    outputs = one.labels.outputs
    systems = [
        synthetic(rows, "big", "teacher", 1.0, outputs), synthetic(rows, "small", "student", 2.0, outputs, seed=1),
        synthetic(rows, "two", "student", 2.0, outputs, seeds=2, seed=2),
        synthetic(rows, "alike", "other", 1.5, outputs, seed=3, calibrated=False),
        synthetic(rows, "floor", "floor", 5.0, outputs, seed=4, calibrated=False),
    ]  # fmt: skip
    return Inputs.of(one, "test", rows["test"], systems, Relevance.of(one.labels))


def kept_students(base):
    """Students that keep several vectors a text, by what their slots are."""
    head = {"layers": 2, "attention_heads": 1, "intermediate": 32}
    return {
        "tsf": tiny_student("dipair-tsf", base, keep=[3, 5], projection=16, head=head),
        "last": tiny_student("dipair-ffnn", base, keep=[4], keep_from="last", projection=None, similarity_skip=False),
        "codes": tiny_student("poly-encoder", base, contexts=3),
    }


def bag_student():
    """A BERT2DNN on the texts of the sample."""
    one = tuple_set()
    values = {"encoder": {"dim": 8, "minimum_count": 1}, "head": {"widths": [8]}}
    return make_student("bert2dnn", parse_config("bert2dnn", values), [one.texts(0), one.texts(1)])


def start_head(student, seed=0):
    """Give a head that starts at zero something to say."""
    import torch

    torch.manual_seed(seed)
    with torch.no_grad():
        for one in student.head.parameters():
            one.add_(torch.randn_like(one) * 0.2)
    return student


def close(left, right):
    return np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)
