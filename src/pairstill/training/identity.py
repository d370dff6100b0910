"""What a training's folder was started with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pairstill.errors import ArtefactError
from pairstill.files import read_json, write_json


def check_identity(folder: Path, identity: dict[str, Any]) -> None:
    """Write what a training learns, or compare it: a checkpoint belongs to one set of data and settings.

    Raises:
        ArtefactError: The folder was started with other ones; mixing them silently would be a wrong result.
    """
    path = folder / "identity.json"
    if not path.exists():
        write_json(path, identity)
        return
    found = read_json(path)
    wanted = json.loads(json.dumps(identity))
    different = sorted(key for key in wanted if key in found and found[key] != wanted[key])
    if different:
        raise ArtefactError(
            f"the folder holds a training with other {', '.join(different)}", file=folder,
            expected="the same command as before, to resume it", fix="Give another --out, or remove the folder",
        )  # fmt: skip
