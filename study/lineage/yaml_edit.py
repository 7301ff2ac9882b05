"""Replace values in ``params.yaml``; keep comments, order and quotes."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import RoundTripConstructor
from ruamel.yaml.error import CommentMark
from ruamel.yaml.nodes import ScalarNode
from ruamel.yaml.representer import RoundTripRepresenter
from ruamel.yaml.tokens import CommentToken

from pipeline.config import ConvBlock, DenseBlock, Pool, to_tree

SHORT = 48  # characters; a longer list is written with one block below another
BLOCKS = [to_tree(block) for block in (ConvBlock(out=1), DenseBlock(out=1), Pool())]  # defaults, recognised by their keys
ALWAYS = ("out", "kernel", "kind")  # keys of a block that are always written


class _Float(str):
    """A number as text; ruamel's own floats lose digits."""


class _Constructor(RoundTripConstructor):
    def construct_float_text(self, node: ScalarNode) -> _Float:
        return _Float(node.value)


class _Representer(RoundTripRepresenter):
    def represent_float_text(self, data: _Float) -> ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:float", str(data))

    def represent_none(self, data: None) -> ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:null", "null")


_Constructor.add_constructor("tag:yaml.org,2002:float", _Constructor.construct_float_text)
_Representer.add_representer(_Float, _Representer.represent_float_text)
_Representer.add_representer(type(None), _Representer.represent_none)


def rewrite(text: str, present: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Return the text with those values changed in which ``wanted`` differs from ``present``; add missing keys.

    Comments stay, except those beside or within a removed block. An alias is one value in two places, so the caller
    must check the result.

    present, wanted : complete plain data, as parsed from the text and as wanted
    """
    yaml = YAML()
    yaml.Constructor, yaml.Representer = _Constructor, _Representer
    yaml.preserve_quotes, yaml.width = True, 4096
    yaml.brace_single_entry_mapping_in_flow_sequence = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    lines = text.replace("\r\n", "\n")
    root, stream = yaml.load(lines), StringIO()
    if root is None:  # an empty file, or only comments
        stream.write(lines and lines.rstrip("\n") + "\n")
        root = CommentedMap()
    _update(root, present, wanted)
    yaml.dump(root, stream)
    return stream.getvalue().replace("\n", "\r\n" if "\r\n" in text else "\n")


def _update(node: CommentedMap, present: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    below = _detach(node)
    for name, value in wanted.items():
        if value == present[name]:
            continue
        old = node.get(name)
        if isinstance(old, CommentedMap) and isinstance(value, Mapping):
            _update(old, present[name], value)
        elif isinstance(old, CommentedSeq) and isinstance(value, list) and old and value:
            _update_list(old, present[name], value)
        elif isinstance(value, Mapping) and isinstance(present[name], Mapping) and name not in node:
            node[name] = _styled({key: part for key, part in value.items() if part != present[name][key]})
        else:
            node[name] = _styled(value)
            if name in node.ca.items:
                node.ca.items[name][3] = None  # comments above the old value's first line
    _attach(node, below)


def _update_list(node: CommentedSeq, present: list[Any], wanted: list[Any]) -> None:
    """Change blocks in place; add or remove blocks at the end. Neither list is empty."""
    below = _detach(node)
    for index, (before, after) in enumerate(zip(present, wanted, strict=False)):
        if isinstance(node[index], CommentedMap) and isinstance(after, Mapping):
            _update(node[index], before, after)
        else:
            node[index] = _styled(after)
    del node[len(wanted) :]
    more = [_styled(item) for item in wanted[len(node) :]]
    for item in more if not node[-1].fa.flow_style() else ():
        item.fa.set_block_style()
    node.extend(more)
    _attach(node, below)


def _styled(value: Any) -> Any:
    """Return plain data as nodes on one line, a long list on several; omit the default keys of blocks."""
    if not isinstance(value, Mapping | list):
        return value
    node: CommentedSeq | CommentedMap
    if isinstance(value, list):
        node = CommentedSeq(_styled(item) for item in value)
    else:
        defaults: Mapping[str, Any] = next((block for block in BLOCKS if block.keys() == value.keys()), {})
        written = (name for name in value if name in ALWAYS or name not in defaults or value[name] != defaults[name])
        node = CommentedMap((name, _styled(value[name])) for name in written)
    node.fa.set_flow_style()
    if isinstance(value, list) and len(str(node)) > SHORT:
        for part in (node, *node):
            part.fa.set_block_style()
    return node


def _last_line(node: CommentedMap | CommentedSeq) -> tuple[list[Any], int]:
    """Return ruamel's tokens and index for the comment of a node's last line, which includes the lines below."""
    key = next(reversed(node)) if isinstance(node, CommentedMap) else len(node) - 1
    value = node[key]
    if isinstance(value, CommentedMap | CommentedSeq) and value and not value.fa.flow_style():
        return _last_line(value)
    return node.ca.items.setdefault(key, [None] * 4), 2 if isinstance(node, CommentedMap) else 0


def _detach(node: CommentedMap | CommentedSeq) -> str:
    """Remove and return the comments below a node, to attach them to a new last line."""
    if not node:
        return ""
    tokens, place = _last_line(node)
    if tokens[place] is None:
        return ""
    line, _, below = tokens[place].value.partition("\n")
    tokens[place].value = f"{line}\n"
    return str(below)


def _attach(node: CommentedMap | CommentedSeq, below: str) -> None:
    if not below:
        return
    tokens, place = _last_line(node)
    line = tokens[place].value.rstrip("\n") if tokens[place] else ""
    tokens[place] = CommentToken(f"{line}\n{below}", tokens[place].start_mark if line else CommentMark(0))
