"""Existing models in the role of teacher."""

from __future__ import annotations

import json
from pathlib import Path

from pairstill.errors import InputError
from pairstill.students import CrossEncoder, load_student

PROBABILITY_ACTIVATIONS = ("Sigmoid", "Softmax")


def load_teacher(name: str | Path, *, max_length: int | None = None, field_count: int = 2) -> CrossEncoder:
    """Load a teacher that gives raw logits.

    Args:
        name: A folder that `pairstill teach` wrote, a sentence-transformers `CrossEncoder` folder or hub name, or a plain
            sequence-classification checkpoint.
        max_length: Most tokens of a tuple; None takes the model's own.
        field_count: Texts of a tuple, for models that do not say.

    Raises:
        InputError: It is no cross-encoder, or one that can only give probabilities.
    """
    folder = Path(name)
    config = folder / "config.json"
    if config.exists() and json.loads(config.read_text()).get("format") == "pairstill/student":
        student = load_student(folder)
        if not isinstance(student, CrossEncoder):
            raise InputError(f"the folder holds a '{student.name}'", file=folder, expected="a cross-encoder as teacher")
        return student
    if folder.is_dir():
        refuse_probabilities(folder)
        if max_length is None:
            max_length = _declared_max_length(folder)
        weights = [*folder.glob("*.safetensors"), *folder.glob("*.bin")]
        if config.exists() and not weights:
            raise InputError("the folder has a configuration and no weights", file=folder, expected="model.safetensors")
    return CrossEncoder.from_sequence_classification(str(name), field_count=field_count, max_length=max_length).eval()


def refuse_probabilities(folder: Path) -> None:
    """Raise `InputError` for a sentence-transformers folder whose modules end in a probability.

    The activation that such a folder names in its configuration is applied by that library after the logits and is not
    part of the weights, so it does not matter here. A module of its own after the classifier does: its input is not ours
    to read.
    """
    modules = folder / "modules.json"
    if not modules.exists():
        return
    for module in json.loads(modules.read_text()):
        kind = str(module.get("type", "")).rsplit(".", 1)[-1]
        inside = folder / str(module.get("path", "")) / "config.json"
        activation = (
            json.loads(inside.read_text()).get("activation_function", "") if kind == "Dense" and inside.exists() else ""
        )
        if kind in PROBABILITY_ACTIVATIONS or str(activation).rsplit(".", 1)[-1] in PROBABILITY_ACTIVATIONS:
            raise InputError(
                f"the model ends in the module '{kind}' and can only give probabilities", file=modules, expected="raw logits",
                fix="Score elsewhere and import: `pairstill annotate --import FILE --kind probability`",
            )  # fmt: skip


def _declared_max_length(folder: Path) -> int | None:
    """What sentence-transformers stored as the maximum length, where it did."""
    path = folder / "sentence_bert_config.json"
    if path.exists():
        found = json.loads(path.read_text()).get("max_seq_length")
        return int(found) if found else None
    return None
