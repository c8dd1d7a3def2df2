"""Whose turn it is: queues that decide in which order ready steps start, where one worker makes them one by one."""

from __future__ import annotations

import random
from typing import Callable, Deque, Dict, Iterator, List, Sequence, Tuple

from blaze.core.do.pool import Item

#: Given the names of the steps that are ready, in the order in which they became so: the place of the next one.
Choose = Callable[[Sequence[str]], int]


class Turns(Deque[Item]):
    """A ready queue from which a choice is made as soon as there is one."""

    def __init__(self, choose: Choose) -> None:
        super().__init__()
        self._choose = choose

    def popleft(self) -> Item:
        """The item whose turn it is."""
        if len(self) < 2:
            return super().popleft()
        names = [str(work.plan.steps[index].name) if 0 <= index < work.final else "" for work, index in self]
        place = self._choose(names)
        self.rotate(-place)
        item = super().popleft()
        self.rotate(place)
        return item


def first_come(names: Sequence[str]) -> int:
    """The step that has been ready for longest."""
    return 0


def drawn(seed: int) -> Choose:
    """An order drawn by lot; the same for the same seed."""
    lot = random.Random(seed)
    return lambda names: lot.randrange(len(names))


def preferred(order: Sequence[str]) -> Choose:
    """The one that comes first in ``order``; those that are not in it come last, as they became ready."""
    rank: Dict[str, int] = {name: place for place, name in enumerate(order)}
    return lambda names: min(range(len(names)), key=lambda place: (rank.get(names[place], len(rank)), place))


class EveryOrder:
    """Plays all choices through, one after the other: each round follows the one before up to its last open choice.

    A round is played with ``choose``; the next begins with ``advance()``.
    """

    def __init__(self) -> None:
        #: The choice that was made at each point of this round, and how many there were.
        self._path: List[Tuple[int, int]] = []
        self._depth = 0

    def choose(self, names: Sequence[str]) -> int:
        """The choice of this round."""
        if self._depth == len(self._path):
            self._path.append((0, len(names)))
        place = self._path[self._depth][0]
        self._depth += 1
        return min(place, len(names) - 1)

    def advance(self) -> bool:
        """Go on to the next round; whether there is one."""
        while self._path and self._path[-1][0] + 1 == self._path[-1][1]:
            self._path.pop()
        self._depth = 0
        if not self._path:
            return False
        place, count = self._path[-1]
        self._path[-1] = (place + 1, count)
        return True

    def rounds(self) -> Iterator[Choose]:
        """The chooser of each round."""
        while True:
            yield self.choose
            if not self.advance():
                return


__all__ = ["Choose", "EveryOrder", "Turns", "drawn", "first_come", "preferred"]
