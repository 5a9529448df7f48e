"""YAML as people mean it: no key twice, and words that are words.

YAML 1.1, which PyYAML implements, takes `no`, `off`, `on` and `yes` for truth values, 1:30 for 90,
010 for 8 and 2024-01-01 for a date, and does not take 6e-4 for a number. Here, as in YAML 1.2,
`true` and `false` are the only truth values, and numbers are written as in Python or JSON.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from tutelage.core.errors import UsageError


class DuplicateKeyError(yaml.YAMLError):
    """A key that a mapping holds twice; `str` says where."""


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012 (an attribute of PyYAML, which does not say so)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if isinstance(key, Hashable) and key in lines and key_node.value != "<<":
                raise DuplicateKeyError(
                    f"key {key!r} is there twice, in line {lines[key]} and in line {line}: "
                    "keep one of them"
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
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first
    )


def _int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node).replace("_", "x")
    return int(text, 0) if text.lstrip("+-")[:2] in ("0x", "0o") else int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _int)


def load_yaml(text: str) -> Any:
    """The value of a YAML document. Raises yaml.YAMLError, which says where."""
    return yaml.load(text, Loader=_Loader)


def load_yaml_option(text: str, option: str) -> Any:
    """The value of a command's option that is written as in a recipe: `{rank: 8}`, `0`, `never`.

    Raises UsageError, which names the option.
    """
    try:
        return load_yaml(text)
    except yaml.YAMLError as error:
        raise UsageError(
            f"{option} {text!r}: not valid YAML: {' '.join(str(error).split())}"
        ) from error
