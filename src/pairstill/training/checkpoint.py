"""Everything that training needs to go on as if it had not been interrupted; safetensors and JSON, nothing is pickled."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pairstill.errors import ArtefactError
from pairstill.files import fingerprint_file, read_json, write_json
from pairstill.students.persistence import write_weights
from pairstill.training.weight_average import WeightAverage

LATEST = "latest.json"


class Checkpoint:
    """The latest state of one training, in `folder`.

    Two generations are kept for the moment in which `latest.json` moves from one to the next, so that a process killed at
    any moment leaves a whole one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(
        self,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        average: WeightAverage | None,
        state: dict[str, Any],
    ) -> None:
        """Write weights, the optimisers' moments, the average, random states and `state` (plain JSON values)."""
        name = f"step-{state['step']:09d}"
        target = self.folder / name
        target.mkdir(parents=True, exist_ok=True)
        tensors = {f"model.{key}": value for key, value in model.state_dict().items()}
        for optimizer, number, parameter in _numbered(optimizers):
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{number}.{key}"] = value
        if average is not None:
            tensors |= {f"average.{key}": value for key, value in average.state().items()}
        tensors["random.torch"] = torch.get_rng_state()
        write_weights(target / "state.safetensors", tensors)
        sha256 = fingerprint_file(target / "state.safetensors")
        write_json(self.folder / LATEST, {"folder": name, "sha256": sha256, "state": state})
        for other in self.folder.glob("step-*"):
            if other.name != name:
                shutil.rmtree(other, ignore_errors=True)

    def load(
        self, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], average: WeightAverage | None
    ) -> dict[str, Any] | None:
        """Restore everything; returns `state`, or None where there is no checkpoint.

        Raises:
            ArtefactError: The checkpoint is damaged.
        """
        from safetensors.torch import load_file

        if not (self.folder / LATEST).exists():
            return None
        latest = read_json(self.folder / LATEST)
        path = self.folder / latest["folder"] / "state.safetensors"
        if not path.exists() or fingerprint_file(path) != latest["sha256"]:
            raise ArtefactError(
                "the checkpoint is missing or damaged", file=path, fix=f"Remove {self.folder} to train from the start"
            )
        tensors = load_file(path)
        model.load_state_dict({key[6:]: value for key, value in tensors.items() if key.startswith("model.")})
        for optimizer, number, parameter in _numbered(optimizers):
            prefix = f"optimizer.{number}."
            found: dict[str, Tensor] = {
                key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)
            }
            if found:
                optimizer.state[parameter] = {
                    key: value if key == "step" else value.to(parameter.device) for key, value in found.items()
                }
        if average is not None:
            average.load({key[8:]: value for key, value in tensors.items() if key.startswith("average.")})
        torch.set_rng_state(tensors["random.torch"])
        state: dict[str, Any] = latest["state"]
        return state

    def remove(self) -> None:
        """Delete it: the training is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _numbered(
    optimizers: Sequence[torch.optim.Optimizer],
) -> Iterator[tuple[torch.optim.Optimizer, int, nn.Parameter]]:
    """Every trained parameter with its optimiser and number."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            for number, parameter in zip(group["numbers"], group["params"], strict=True):
                yield optimizer, number, parameter
