"""Load YAML by the rules of YAML 1.2, and refuse duplicate keys.

PyYAML implements YAML 1.1, which reads `no`, `off`, `on` and `yes` as booleans, 1:30 as 90, 010 as
8, 2024-01-01 as a date, and 6e-4 as text. Here only `true` and `false` are booleans, and numbers
are written as in Python or JSON.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from tutelage.core.errors import UsageError


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would read as something else than text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML does not annotate it)
        first: list(pairs) for first, pairs in yaml.SafeDumper.yaml_implicit_resolvers.items()
    }


class DuplicateKeyError(yaml.YAMLError):
    """A mapping has a key twice; the message has both lines."""


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012 (PyYAML does not annotate it)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if isinstance(key, Hashable) and key in lines and key_node.value != "<<":
                raise DuplicateKeyError(
                    f"key {key!r} appears twice, in lines {lines[key]} and {line}: keep one of them"
                )
            lines[key] = line
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("merge", r"<<", "<"),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first
        )


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, 0) if text.lstrip("+-")[:2] in ("0x", "0o") else int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _int)


def load_yaml(text: str) -> Any:
    """Parse a YAML document. Raises yaml.YAMLError, whose message has the place."""
    return yaml.load(text, Loader=_Loader)


def dump_yaml(value: Any) -> str:
    """Write a value as YAML that `load_yaml` reads back as an equal one, keys in their order."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def load_yaml_option(text: str, option: str) -> Any:
    """Parse a command-line option in the notation of a recipe: `{rank: 8}`, `0`, `never`.

    Raises UsageError, whose message names the option.
    """
    try:
        return load_yaml(text)
    except yaml.YAMLError as error:
        raise UsageError(
            f"{option} {text!r}: not valid YAML: {' '.join(str(error).split())}"
        ) from error
