"""The structure of a space: its nodes, and the conditions under which their parameters are active."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from optuna.distributions import BaseDistribution

from study.space.nodes import Choice, Fixed, Node, Path, Range, Repeat

Condition = tuple[tuple[str, int], ...]  # choice and index of its option, or list and its least number of blocks


def every(nodes: Sequence[Node]) -> Iterator[Node]:
    """Yield all nodes, at any depth."""
    for node in nodes:
        yield node
        if isinstance(node, Choice):
            yield from every([inner for branch in node.branches for inner in branch])
        if isinstance(node, Repeat):
            yield from every([*node.shared, *(inner for block in node.blocks for inner in block)])


def searched(nodes: Sequence[Node]) -> Iterator[Range | Choice | Repeat]:
    """Yield the nodes that have a parameter, at any depth."""
    for node in every(nodes):
        if isinstance(node, Range | Choice) or (isinstance(node, Repeat) and node.searched):
            yield node


def conditions(nodes: Sequence[Node], condition: Condition) -> Iterator[tuple[str, Condition]]:
    """Yield the name of each parameter and the condition under which it is active."""
    for node in nodes:
        if isinstance(node, Range | Choice) or (isinstance(node, Repeat) and node.searched):
            yield node.name, condition
        if isinstance(node, Choice):
            for index, branch in enumerate(node.branches):
                yield from conditions(branch, (*condition, (node.name, index)))
        if isinstance(node, Repeat):
            for count, block in enumerate((node.shared, *node.blocks)):
                least = max(count, 1)  # blocks needed
                inner = condition if least <= node.counts.low else (*condition, (node.name, least))
                yield from conditions(block, inner)


def certain(nodes: Sequence[Node]) -> set[str]:
    """Return the names of the parameters that are active at every point."""
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, Range | Choice):
            names.add(node.name)
        if isinstance(node, Choice):
            names |= set.intersection(*map(certain, node.branches))
        if isinstance(node, Repeat):
            names |= ({node.name} if node.searched else set()) | certain(node.active(node.counts.low))
    return names


def paths_of(node: Node) -> Iterator[Path]:
    """Yield the outermost keys that a node may set."""
    if isinstance(node, Fixed | Range | Repeat):
        yield node.path
    if isinstance(node, Choice):
        if node.path is not None:
            yield node.path
        for branch in node.branches:
            for inner in branch:
                yield from paths_of(inner)


def distribution_of(node: Range | Choice | Repeat) -> BaseDistribution:
    """Return the distribution of a node's parameter; for a list, of the number of its blocks."""
    return node.counts if isinstance(node, Repeat) else node.distribution
