"""YAML that users write: source specs, recipes, settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pairstill.errors import InputError


class _Loader(yaml.SafeLoader):
    """Refuses a key that comes twice, of which YAML's own loader keeps the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """As every safe loader."""
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        problem=f"the key '{key.value}' comes twice", problem_mark=key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, what: str) -> Any:
    """Read YAML; raises `InputError` with the file and line where it cannot be read, is not YAML or has a key twice.

    Args:
        path: The file.
        what: Of it, for messages: `recipe`.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        raise InputError(f"the {what} cannot be read: {error.strerror}", file=path) from None
    except UnicodeDecodeError as error:
        raise InputError(f"the {what} is not UTF-8: {error}", file=path) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or error
        twice = isinstance(error, yaml.constructor.ConstructorError)
        raise InputError(
            f"the {what} {'cannot be read' if twice else 'is not YAML'}: {problem}", file=path,
            row=None if mark is None else mark.line + 1,
        ) from None  # fmt: skip
