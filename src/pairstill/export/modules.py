"""The modules of a sentence-transformers folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pairstill.errors import InputError
from pairstill.files import read_json, write_json
from pairstill.students.persistence import write_weights

TYPES = {
    "Transformer": "sentence_transformers.models.Transformer",
    "Pooling": "sentence_transformers.models.Pooling",
    "Dense": "sentence_transformers.models.Dense",
    "Normalize": "sentence_transformers.models.Normalize",
    "MultiVectorMask": "sentence_transformers.multi_vector_encoder.modules.MultiVectorMask",
}
"""Names by which every version of the library since 2.0 finds its modules; the last one came with version 6."""
IDENTITY = "torch.nn.modules.linear.Identity"
TANH = "torch.nn.modules.activation.Tanh"
FIX = "Distil a student from it instead: its folder can be a --base"


@dataclass(frozen=True)
class Module:
    """One module behind the transformer.

    Attributes:
        kind: Key of `TYPES`.
        config: Of its `config.json`.
        weights: By name; empty where it has none.
    """

    kind: str
    config: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Tensor] = field(default_factory=dict)


def dense(layer: nn.Linear, name: str, activation: str = IDENTITY) -> Module:
    """A linear layer over the features of that name, and what follows it."""
    config = {
        "in_features": layer.in_features, "out_features": layer.out_features, "bias": layer.bias is not None,
        "activation_function": activation, "module_input_name": name, "module_output_name": name,
    }  # fmt: skip
    return Module("Dense", config, {f"linear.{key}": one for key, one in layer.state_dict().items()})


def pooling(dim: int, mode: str) -> Module:
    """Pooling in the form that all versions read."""
    flags = {
        "cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens", "max": "pooling_mode_max_tokens",
        "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    }  # fmt: skip
    return Module("Pooling", {"word_embedding_dimension": dim, **{flag: name == mode for name, flag in flags.items()}})


def save_modules(folder: Path, modules: Sequence[Module]) -> None:
    """Write the modules behind the transformer, which lies in the folder itself, and `modules.json`."""
    listed = [{"idx": 0, "name": "0", "path": "", "type": TYPES["Transformer"]}]
    for number, module in enumerate(modules, start=1):
        path = f"{number}_{module.kind}"
        (folder / path).mkdir()
        write_json(folder / path / "config.json", dict(module.config))
        if module.weights:
            write_weights(folder / path / "model.safetensors", dict(module.weights))
        listed.append({"idx": number, "name": str(number), "path": path, "type": TYPES[module.kind]})
    write_json(folder / "modules.json", listed)


def read_dense(folder: Path, name: str, activation: str = IDENTITY) -> dict[str, Any]:
    """The configuration of a `Dense` module.

    Raises:
        InputError: It has no bias where an activation follows, another activation, or is over other features than `name`.
    """
    config = read_object(folder / "config.json")
    found, wanted = (str(one).rsplit(".", 1)[-1] for one in (config.get("activation_function", TANH), activation))
    places = {config.get(key) or name for key in ("module_input_name", "module_output_name")}
    if found != wanted or config.get("use_residual") or places != {name}:
        raise InputError(
            f"the folder has a Dense module over {', '.join(sorted(places))} with activation {found}",
            file=folder / "config.json", expected=f"a linear layer over {name} with activation {wanted}", fix=FIX,
        )  # fmt: skip
    return config


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: The file is missing or holds something else.
    """
    body = read_json(path)
    if not isinstance(body, dict):
        raise InputError("the file holds no JSON object", file=path)
    return body
