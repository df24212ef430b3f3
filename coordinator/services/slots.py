"""Who may begin now: so many at once in the region and on each node, in the order in which they wait."""

from collections import Counter
from collections.abc import Iterable, Mapping


def choose(
    waiting: Iterable[tuple[str, str | None]], running: Mapping[str | None, int], *, most: int, most_of_node: int
) -> list[str]:
    """Ids of those of `waiting` (id, node) for whom there is room beside what runs on each node."""
    free, of_node = most - sum(running.values()), Counter(running)
    chosen: list[str] = []
    for name, node_id in waiting:
        if len(chosen) >= free:
            break
        if of_node[node_id] < most_of_node:
            of_node[node_id] += 1
            chosen.append(name)
    return chosen
