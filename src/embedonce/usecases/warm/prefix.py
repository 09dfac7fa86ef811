"""How far everything is done, when batches end in any order."""

from __future__ import annotations

from collections import deque

from embedonce.usecases.warm.entry import Entry, Mark, Slot, Tally


class Prefix:
    """`mark`: every entry up to here is done. `tally`: of those, and of earlier runs."""

    def __init__(self, mark: Mark, tally: Tally) -> None:
        self.mark = mark
        self.tally = tally
        self._slots: deque[Slot] = deque()

    def __len__(self) -> int:
        """Entries from the first one that is not done to the last one that was read."""
        return len(self._slots)

    def add(self, entry: Entry) -> Slot:
        slot = Slot(entry)
        self._slots.append(slot)
        return slot

    def finish(self, slot: Slot, tally: Tally) -> None:
        slot.tally = tally
        slot.entry = Entry(slot.entry.mark)  # its content is not held for as long as one before it takes
        while self._slots and (done := self._slots[0].tally) is not None:
            self.tally.add(done)
            self.mark = self._slots[0].entry.mark
            self._slots.popleft()
