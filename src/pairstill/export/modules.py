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
    "Router": "sentence_transformers.models.Router",
    "MultiVectorMask": "sentence_transformers.multi_vector_encoder.modules.MultiVectorMask",
}
"""Names by which every version of the library since 2.0 finds its modules; routers came with version 5, the last one with 6."""
IDENTITY = "torch.nn.modules.linear.Identity"
TANH = "torch.nn.modules.activation.Tanh"
ROUTES, ROUTER_FILE = ("query", "document"), "router_config.json"
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
        "activation_function": activation,
    }  # fmt: skip
    if name != "sentence_embedding":
        # Version 6 has these; without them the layer is over sentence embeddings, as it always was.
        config |= {"module_input_name": name, "module_output_name": name}
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
        _save(folder / path, module)
        listed.append({"idx": number, "name": str(number), "path": path, "type": TYPES[module.kind]})
    write_json(folder / "modules.json", listed)


def transformer_folder(folder: Path, field: int) -> Path:
    """Where the transformer of a field lies in a folder with routes."""
    return folder / f"{ROUTES[field]}_0_Transformer"


def save_routes(folder: Path, modules: Sequence[Sequence[Module]]) -> None:
    """Write the modules behind each field's transformer, and the router that sends queries and documents through their own.

    Args:
        folder: Holds the transformers at `transformer_folder`.
        modules: Per field; a module that is in both lists is written once.
    """
    types, names = dict[str, str](), dict[int, str]()
    structure = {}
    for position, (route, listed) in enumerate(zip(ROUTES, modules, strict=True)):
        structure[route] = [transformer_folder(folder, position).name]
        types[structure[route][0]] = TYPES["Transformer"]
        for number, module in enumerate(listed, start=1):
            if id(module) not in names:
                names[id(module)] = f"{route}_{number}_{module.kind}"
                _save(folder / names[id(module)], module)
            types[names[id(module)]] = TYPES[module.kind]
            structure[route].append(names[id(module)])
    # Without a default route `encode` refuses a text of which it does not know whether it is a query.
    parameters = {"default_route": None, "allow_empty_key": False}
    write_json(folder / ROUTER_FILE, {"types": types, "structure": structure, "parameters": parameters})
    write_json(folder / "modules.json", [{"idx": 0, "name": "0", "path": "", "type": TYPES["Router"]}])


def read_routes(folder: Path) -> list[dict[str, Path]]:
    """Per field, folders of an exported folder's modules by kind.

    Raises:
        KeyError: The router has other routes.
    """
    if not (folder / ROUTER_FILE).exists():
        return [dict(list_modules(folder))] * len(ROUTES)
    router = read_object(folder / ROUTER_FILE)
    return [
        {router["types"][name].rsplit(".", 1)[-1]: folder / name for name in router["structure"][route]}
        for route in ROUTES
    ]


def list_modules(folder: Path) -> list[tuple[str, Path]]:
    """Kind and folder of each module.

    Raises:
        InputError: `modules.json` is no list of modules.
    """
    path = folder / "modules.json"
    body = read_json(path)
    if not isinstance(body, list) or not all(isinstance(one, dict) for one in body):
        raise InputError("the file lists no modules", file=path, expected="a list of objects with 'type' and 'path'")
    return [(str(one.get("type", "")).rsplit(".", 1)[-1], folder / str(one.get("path", ""))) for one in body]


def _save(folder: Path, module: Module) -> None:
    folder.mkdir()
    write_json(folder / "config.json", dict(module.config))
    if module.weights:
        write_weights(folder / "model.safetensors", dict(module.weights))


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
