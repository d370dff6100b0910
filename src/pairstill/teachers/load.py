"""Existing models in the role of teacher."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from pairstill.errors import InputError
from pairstill.files import read_json
from pairstill.students import CrossEncoder, Student, load_student
from pairstill.students.encoders.pretrained import check_max_lengths, quiet_loading, resolve_base

PROBABILITY_ACTIVATIONS = ("Sigmoid", "Softmax")


def load_teacher(name: str | Path, *, max_length: int | None = None, field_count: int = 2) -> Student:
    """Load a teacher that gives raw logits.

    Args:
        name: A folder that `pairstill teach` or `pairstill distill` wrote (any student may teach a smaller one: a teacher's
            assistant), a sentence-transformers `CrossEncoder` folder or hub name, or a plain sequence-classification checkpoint.
        max_length: Most tokens of a tuple, for cross-encoders; None takes the model's own.
        field_count: Texts of a tuple, for models that do not say.

    Raises:
        InputError: It is damaged or without a trained classifier, can only give probabilities, or reads its input in a way that
            is not ours; or a maximum length is given for a student that reads its fields apart.
    """
    folder = Path(name)
    config = folder / "config.json"
    if config.exists() and _read_object(config).get("format") == "pairstill/student":
        return _load_taught(folder, max_length)
    settings = folder if folder.is_dir() else _settings_of_hub(str(name))
    if settings is not None:
        refuse_modules(settings)
        refuse_changed_input(settings)
        if max_length is None:
            max_length = _declared_max_length(settings)
    if folder.is_dir():
        weights = [*folder.glob("model*.safetensors"), *folder.glob("pytorch_model*.bin")]
        if config.exists() and not weights:
            raise InputError("the folder has a configuration and no weights", file=folder, expected="model.safetensors")
    _refuse_base(str(name))
    return _load_classifier(str(name), field_count, max_length)


def refuse_modules(folder: Path) -> None:
    """Raise `InputError` for a sentence-transformers folder that is more than one classifier.

    The activation that such a folder names in its configuration is applied by that library after the logits and is not
    part of the weights, so it does not matter here. A module of its own after the classifier does: what it reads are not
    the classifier's logits.
    """
    modules = folder / "modules.json"
    if not modules.exists():
        return
    found = read_json(modules)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise InputError("the file lists no modules", file=modules, expected="a list of objects with 'type' and 'path'")
    for module in found:
        kind = str(module.get("type", "")).rsplit(".", 1)[-1]
        inside = folder / str(module.get("path", "")) / "config.json"
        activation = _read_object(inside).get("activation_function", "") if kind == "Dense" and inside.exists() else ""
        if kind in PROBABILITY_ACTIVATIONS or str(activation).rsplit(".", 1)[-1] in PROBABILITY_ACTIVATIONS:
            raise InputError(
                f"the model ends in the module '{kind}' and can only give probabilities", file=modules, expected="raw logits",
                fix="Score elsewhere and import: `pairstill annotate --import FILE --kind probability`",
            )  # fmt: skip
    others = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in found]
    others = [kind for kind in others if kind != "Transformer"]
    if others:
        raise InputError(
            f"the model has the module '{others[0]}', which is no classification layer", file=modules,
            expected="a cross-encoder that is one sequence classifier",
            fix="Score elsewhere and import: `pairstill annotate --import FILE --kind logit`",
        )  # fmt: skip


def refuse_changed_input(folder: Path) -> None:
    """Raise `InputError` for settings of sentence-transformers that change what the transformer reads."""
    path, fix = folder / "sentence_bert_config.json", "Score elsewhere and import: `pairstill annotate --import FILE`"
    if path.exists():
        body = _read_object(path)
        task = body.get("transformer_task", "sequence-classification")
        if task != "sequence-classification":
            raise InputError(
                f"the model is loaded for the task '{task}'", file=path, expected="'sequence-classification'", fix=fix
            )
        for name in ("do_lower_case", "processing_kwargs"):
            if body.get(name):
                raise InputError(
                    f"the setting '{name}' is {body[name]!r}, and teachers read texts as they are", file=path, fix=fix
                )
    path = folder / "config_sentence_transformers.json"
    if path.exists():
        prompt = _read_object(path).get("default_prompt_name")
        if prompt:
            raise InputError(
                f"the model puts the prompt '{prompt}' before texts, and teachers read texts as they are", file=path,
                fix=fix,
            )  # fmt: skip


def _load_taught(folder: Path, max_length: int | None) -> Student:
    student = load_student(folder)
    if max_length is not None:
        if not isinstance(student, CrossEncoder):
            raise InputError(
                f"the folder holds a '{student.name}', which reads each text by itself, and a maximum length of the whole tuple is given",
                file=folder, fix="Leave it out: the student reads what it was trained to read",
            )  # fmt: skip
        check_max_lengths(student.model.config, (max_length,), student.template.special_count + student.field_count)
        student.max_length = max_length
    return student


def _load_classifier(name: str, field_count: int, max_length: int | None) -> CrossEncoder:
    from safetensors import SafetensorError

    try:
        return CrossEncoder.from_sequence_classification(name, field_count=field_count, max_length=max_length).eval()
    except (SafetensorError, RuntimeError) as error:
        detail = str(error).strip().splitlines()[0]
        raise InputError(
            f"the weights cannot be loaded: {detail}", file=name, fix="Copy or download the folder again"
        ) from error


def _refuse_base(name: str) -> None:
    """A base without a classifier would be given a random one."""
    from transformers import AutoConfig

    with quiet_loading(name):
        architectures = AutoConfig.from_pretrained(resolve_base(name)).architectures or []
    if architectures and not any(one.endswith("ForSequenceClassification") for one in architectures):
        raise InputError(
            f"'{name}' is a {architectures[0]}, which has no classification layer", expected="a trained cross-encoder",
            fix="Train one from it: `pairstill teach --base`",
        )  # fmt: skip


def _settings_of_hub(name: str) -> Path | None:
    """A folder with the JSON files of a model of the hub; None where there is none to be had, which loading will tell."""
    from huggingface_hub import snapshot_download

    if Path(resolve_base(name)).is_dir():
        return None
    with contextlib.suppress(OSError, ValueError):
        return Path(snapshot_download(name, allow_patterns=["*.json", "*/config.json"]))
    return None


def _declared_max_length(folder: Path) -> int | None:
    """What sentence-transformers stored as the maximum length, where it did."""
    path = folder / "sentence_bert_config.json"
    if path.exists():
        found = _read_object(path).get("max_seq_length")
        return int(found) if found else None
    return None


def _read_object(path: Path) -> dict[str, Any]:
    body = read_json(path)
    if not isinstance(body, dict):
        raise InputError("the file holds no JSON object", file=path)
    return body
