"""Reading YAML with errors that name the file, the line and the column."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

import yaml

from pyflare_proto.errors import ConfigError

__all__ = ["read_yaml"]


class _StrictLoader(yaml.SafeLoader):
    """Plain YAML in which a key given twice is an error, not a silent choice."""

    def construct_mapping(
        self,
        node: yaml.MappingNode,
        deep: bool = False,  # noqa: FBT001, FBT002 - the signature is PyYAML's
    ) -> dict[Hashable, object]:
        """Return the mapping of a node; raises on a key given twice."""
        seen: set[object] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable):
                if key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"key {key!r} is given twice", key_node.start_mark
                    )
                seen.add(key)
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path) -> object:
    """Return the plain data of a YAML file; an empty file is an empty mapping.

    Raises:
        ConfigError: the file cannot be read or is no YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"no configuration file {path}", hint="pyflare init writes a pyflare.yaml"
        ) from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: not UTF-8 at byte {error.start}", hint=f"save {path} as UTF-8"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}", hint="--config FILE names another file"
        ) from None
    try:
        tree = yaml.load(text, Loader=_StrictLoader)  # noqa: S506 - derived from SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ConfigError(
            f"{where}: {error.problem or 'not YAML'}", hint=f"correct the YAML in {path}"
        ) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{path}: not YAML: {error}", hint=f"correct {path}") from None
    return {} if tree is None else tree
