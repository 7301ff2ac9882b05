"""``params.yaml`` with some values replaced, and every other byte of it as it was: comments, order, quotes, spaces."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import CollectionNode, MappingNode, Node, SequenceNode

from pipeline.config import ConvBlock, DenseBlock, Pool, to_tree

SHORT = 48  # characters; a longer list is written with one block after another
BLOCKS = [to_tree(block) for block in (ConvBlock(out=1), DenseBlock(out=1), Pool())]  # their defaults, by their keys
ALWAYS = ("out", "kernel", "kind")  # keys of a block that are written even where they are the default
RESERVED = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"}

Edit = tuple[int, int, str]  # from, to (characters of the text), and what takes their place


def rewrite(text: str, present: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The text with the values in which ``wanted`` differs from ``present``; keys that are not there yet are added.

    A scalar is replaced in its place, and the comment behind it stays in its column. Of a list of blocks those at the same
    position are changed, others added at its end or removed with their comments. Anchors and merge keys are not understood: the
    caller checks that the result says what it should.

    present, wanted : whole trees of plain data, with all keys, as the text is read and as it shall be
    """
    root = YAML().compose(text)
    if root is None:
        lines = _block(_differing(present, wanted), 0)
        return text + "".join(f"{line}\n" for line in lines)
    writer = _Writer(text)
    writer.mapping(root, present, wanted, flow=False)
    return writer.result()


class _Writer:
    """Collects edits of one text. Nodes are those of the text; ``flow``: inside of brackets, where all is on one line."""

    def __init__(self, text: str) -> None:
        self.text, self.edits = text, list[Edit]()
        self.newline = "\r\n" if "\r\n" in text else "\n"

    def mapping(self, node: MappingNode, present: Mapping[str, Any], wanted: Mapping[str, Any], flow: bool) -> None:
        flow = flow or bool(node.flow_style)
        entries = {key.value: (key, value) for key, value in node.value}
        missing = {}
        for name, value in wanted.items():
            if value == present[name]:
                continue
            if name in entries:
                self._value(*entries[name], present[name], value, flow)
            else:
                missing[name] = _differing(present[name], value)
        if missing and flow:
            comma = ", " if entries else ""
            self.edits.append((node.end_mark.index - 1,) * 2 + (comma + _flow(missing)[1:-1],))
        elif missing:
            self._insert_lines(_end(node), _block(missing, node.value[0][0].start_mark.column))

    def _value(self, key: Node, node: Node, present: Any, wanted: Any, flow: bool) -> None:
        block = isinstance(node, CollectionNode) and not node.flow_style
        if isinstance(node, MappingNode) and isinstance(wanted, Mapping):
            self.mapping(node, present, wanted, flow)
        elif isinstance(node, SequenceNode) and block and wanted:
            self._sequence(node, present, wanted)
        elif block:
            self.edits.append((self._colon(key),) * 2 + (f" {_flow(wanted)}",))
            self._delete_lines(node.start_mark.index, _end(node))
        elif isinstance(wanted, list) and not flow and len(_flow(_short(wanted))) > SHORT:
            self.edits.append((self._colon(key), max(self._colon(key), _end(node)), ""))
            self._insert_lines(self._colon(key), _items(_short(wanted), key.start_mark.column + 2))
        elif _empty(node):
            self.edits.append((self._colon(key),) * 2 + (f" {_flow(_short(wanted))}",))
        else:
            self.edits.append((node.start_mark.index, node.end_mark.index, _flow(_short(wanted))))

    def _colon(self, key: Node) -> int:
        """Where a key's value may begin."""
        return self.text.index(":", key.end_mark.index) + 1

    def _sequence(self, node: SequenceNode, present: Sequence[Any], wanted: Sequence[Any]) -> None:
        for item, before, after in zip(node.value, present, wanted, strict=False):
            if isinstance(item, MappingNode) and before != after:
                self.mapping(item, before, after, flow=False)
            elif before != after:
                self.edits.append((item.start_mark.index, item.end_mark.index, _flow(after)))
        if len(wanted) < len(node.value):
            self._delete_lines(node.value[len(wanted)].start_mark.index, _end(node))
        elif len(wanted) > len(node.value):
            more = _short(list(wanted[len(node.value) :]))
            lines = [f"- {_flow(item)}" for item in more] if node.value[-1].flow_style else _items(more, 0)
            self._insert_lines(_end(node), [" " * node.start_mark.column + line for line in lines])

    def _insert_lines(self, after: int, lines: Sequence[str]) -> None:
        """New lines below the one that holds this position."""
        place = _line_end(self.text, after)
        self.edits.append((place, place, "".join(self.newline + line for line in lines)))

    def _delete_lines(self, first: int, last: int) -> None:
        """The lines from the one that holds ``first`` to the one that holds ``last``."""
        start = self.text.rfind("\n", 0, first)
        self.edits.append((start - (self.text[start - 1] == "\r"), _line_end(self.text, last), ""))

    def result(self) -> str:
        text = self.text
        # From the end on, so that positions stay true; of two in one place the first is to stand first.
        ordered = sorted(enumerate(self.edits), key=lambda edit: (edit[1][0], edit[0]), reverse=True)
        for _, (start, end, new) in ordered:
            tail = text[end : _line_end(text, end)]
            behind = text[end + len(tail) :]
            if "\n" not in text[start:end] + new:
                tail = _realigned(tail, len(new) - (end - start))
            text = text[:start] + new + tail + behind
        return text


def _realigned(tail: str, grown: int) -> str:
    """The rest of a line, the comment in it moved back by as much as the line has grown."""
    found = re.fullmatch(r"""((?:[^'"#\s]#*|'[^']*'|"[^"]*"|[ \t]+(?![ \t#]))*)([ \t]+)(#.*)""", tail)
    return tail if found is None else found[1] + " " * max(1, len(found[2]) - grown) + found[3]


def _end(node: Node) -> int:
    """Where a node's last value ends; a block's own end mark lies behind the comments that follow it."""
    if not isinstance(node, CollectionNode) or node.flow_style:
        return int(node.end_mark.index)
    if not isinstance(node, MappingNode):
        return _end(node.value[-1])
    key, value = node.value[-1]
    return int(key.end_mark.index) if _empty(value) else _end(value)


def _empty(node: Node) -> bool:
    """Whether it stands for a value that is not written; its marks lie somewhere behind."""
    return bool(node.start_mark.index == node.end_mark.index)


def _line_end(text: str, position: int) -> int:
    end = text.find("\n", position)
    end = len(text) if end < 0 else end
    return end - 1 if end > position and text[end - 1] == "\r" else end


def _differing(present: Any, wanted: Any) -> Any:
    """What of a tree is to be written where nothing of it is yet."""
    if isinstance(wanted, Mapping) and isinstance(present, Mapping):
        return {name: _differing(present[name], value) for name, value in wanted.items() if value != present[name]}
    return _short(wanted)


def _short(value: Any) -> Any:
    """Blocks of a network without the keys that are at their defaults."""
    if isinstance(value, list):
        return [_short(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    defaults: Mapping[str, Any] = next((block for block in BLOCKS if block.keys() == value.keys()), {})
    return {
        name: _short(part) for name, part in value.items() if name in ALWAYS or name not in defaults or part != defaults[name]
    }


def _block(tree: Mapping[str, Any], column: int) -> list[str]:
    """The lines of a mapping, long lists and mappings below their keys."""
    lines, indent = [], " " * column
    for name, value in tree.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{name}:", *_block(value, column + 2)]
        elif isinstance(value, list) and len(_flow(value)) > SHORT:
            lines += [f"{indent}{name}:", *_items(value, column + 2)]
        else:
            lines.append(f"{indent}{name}: {_flow(value)}")
    return lines


def _items(items: Sequence[Mapping[str, Any]], column: int) -> list[str]:
    """The lines of a list of blocks, one key a line."""
    lines = []
    for item in items:
        pairs = [f"{name}: {_flow(value)}" for name, value in item.items()]
        lines += [" " * column + ("  " if number else "- ") + pair for number, pair in enumerate(pairs)]
    return lines


def _flow(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_flow(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(part) for part in value) + "]"
    if isinstance(value, float):
        return re.sub(r"^(-?\d+)e", r"\1.0e", repr(value))  # 1e-05 is text to readers of YAML 1.1
    if isinstance(value, str) and re.fullmatch(r"[a-z][a-z0-9_]*", value) and value not in RESERVED:
        return value
    return json.dumps(value)
