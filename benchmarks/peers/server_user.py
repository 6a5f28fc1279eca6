"""One user of ``server_soak.py``: ``python server_user.py URL FOLDER NUMBER SEED``, until SIGTERM."""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from oncoseg_client import RemoteSession, Server, ServerError

SERIES = ("lung1", "lung2", "brain1")
NAMES = ("tumour", "node", "organ")
OFTEN = {"prompt": 60, "draw": 6, "undo": 10, "redo": 6, "follow": 1, "remove": 3, "save": 3, "look": 11}

State: TypeAlias = dict[str, dict[int, Any]]
"""Masks by structure and slice."""


class User:
    """Gives known prompts, and knows what every mask must be, and reports what happened, one JSON a line."""

    def __init__(self, url: str, folder: Path, number: int, seed: int) -> None:
        self.dice = random.Random(seed)  # noqa: S311 - nothing secret
        self.server = Server(url, timeout=120)
        self.folder = folder
        self.log = (folder / f"user-{number}.jsonl").open("a", buffering=1)
        self.going = True
        signal.signal(signal.SIGTERM, self.leave)

    def leave(self, *_: object) -> None:
        """After the step at hand."""
        self.going = False

    def report(self, what: str, **more: Any) -> None:
        """One line of what happened."""
        self.log.write(json.dumps({"what": what, **more}) + "\n")

    def refused(self, error: ServerError, call: str) -> None:
        """A call that was not answered."""
        self.report("refused", code=error.code, message=str(error), call=call)

    def work(self) -> None:
        """One session after the other."""
        while self.going:
            try:
                Visit(self, self.dice.choice(SERIES)).stay()
            except ServerError as error:
                self.refused(error, "open")
                time.sleep(self.dice.uniform(1, 4))


class Visit:
    """A session on one series, and the masks that it must have."""

    def __init__(self, user: User, series: str) -> None:
        self.user, self.dice, self.series = user, user.dice, series
        told = json.loads((user.folder / f"{series}.json").read_text())
        with np.load(user.folder / f"{series}.npz") as known:
            self.answers = known["masks"]
            self.height, self.width = (int(number) for number in known["shape"])
        self.prompts = told["prompts"]
        self.session: RemoteSession = user.server.open("scans", told["study"], told["series"])
        user.report("opened", series=series)
        self.states: list[State] = [{}]
        self.undone: list[State] = []

    def stay(self) -> None:
        """Some steps; now and then the user leaves without a word."""
        for _ in range(self.dice.randrange(10, 80)):
            if not self.user.going:
                break
            action = self.dice.choices(list(OFTEN), list(OFTEN.values()))[0]
            try:
                getattr(self, action)()
                self.user.report(action)
            except ServerError as error:
                self.user.refused(error, action)
                if error.code == "unreachable" and not self.resumed():
                    return
            self.compare(action)
            time.sleep(self.dice.uniform(0, 1))
        if self.dice.random() < 0.7:
            self.session.close()

    def prompt(self) -> None:
        """One of the known prompts, in the place of what the structure has there."""
        number, structure = self.dice.randrange(len(self.prompts)), self.dice.choice(NAMES)
        one = self.prompts[number]
        points = [list(one["numbers"][at : at + 2]) for at in range(0, len(one["numbers"]), 2)]
        self.session.prompt(structure, one["slice"], [{"kind": one["kind"], "points": points}], replace=True)
        bits = np.unpackbits(self.answers[number], count=self.height * self.width)
        self.step(structure, one["slice"], bits.astype(bool).reshape(self.height, self.width))

    def draw(self) -> None:
        """A rectangle, as if by hand."""
        structure, index = self.dice.choice(NAMES), self.dice.choice(self.prompts)["slice"]
        mask = np.zeros((self.height, self.width), dtype=bool)
        y, x = self.dice.randrange(self.height - 20), self.dice.randrange(self.width - 20)
        mask[y : y + 15, x : x + 9] = True
        self.session.draw(structure, index, mask)
        self.step(structure, index, mask)

    def undo(self) -> None:
        """One step back."""
        if len(self.states) > 1:
            self.session.undo()
            self.undone.append(self.states.pop())

    def redo(self) -> None:
        """One step forth."""
        if self.undone:
            self.session.redo()
            self.states.append(self.undone.pop())

    def follow(self) -> None:
        """Through the volume; some change their mind meanwhile. What is found is not known before."""
        if self.states[-1]:
            structure = self.dice.choice(list(self.states[-1]))
            stop = self.dice.random() < 0.5
            self.session.propagate(structure, (lambda *_: self.session.cancel()) if stop else None)
            found = {index: mask.copy() for index, mask in self.session.masks[structure].items()}
            self.states.append({**self.states[-1], structure: found})
            self.undone.clear()

    def remove(self) -> None:
        """Take a structure out."""
        if self.states[-1]:
            structure = self.dice.choice(list(self.states[-1]))
            self.session.remove(structure)
            self.states.append({name: slices for name, slices in self.states[-1].items() if name != structure})
            self.undone.clear()

    def save(self) -> None:
        """What was said to be saved is looked for at the end."""
        voxels = {name: sum(int(mask.sum()) for mask in slices.values()) for name, slices in self.states[-1].items()}
        if any(voxels.values()):
            formats = ("seg",) if self.dice.random() < 0.5 else ("seg", "rtstruct", "sr")
            objects = self.session.save(formats)["objects"]
            kept = {name: count for name, count in voxels.items() if count}
            self.user.report("saved", series=self.series, objects=objects, voxels=kept)

    def look(self) -> None:
        """Scroll to another slice."""
        self.session.view(self.dice.choice(self.prompts)["slice"])

    def step(self, structure: str, index: int, mask: Any) -> None:
        """What must be after a step."""
        state = {name: dict(slices) for name, slices in self.states[-1].items()}
        state.setdefault(structure, {})[index] = mask
        self.states.append(state)
        self.undone.clear()

    def resumed(self) -> bool:
        """Whether the server is back; a step that was never answered may have been taken, so it is opened anew."""
        for _ in range(60):
            time.sleep(self.dice.uniform(1, 3))
            try:
                self.session.reopen()
            except ServerError as error:
                self.user.refused(error, "reopen")
            else:
                self.user.report("resumed")
                return True
        return False

    def compare(self, after: str) -> None:
        """Whether every mask is what it must be."""
        state = self.states[-1]
        for structure in set(state) | set(self.session.masks):
            must, has = state.get(structure, {}), self.session.masks.get(structure, {})
            for index in set(must) | set(has):
                nothing = np.zeros((self.height, self.width), dtype=bool)
                one, other = must.get(index, nothing), has.get(index, nothing)
                if not np.array_equal(one, other):
                    pixels = [int(one.sum()), int(other.sum()), int((one ^ other).sum())]
                    more = {"structure": structure, "slice": index, "after": after, "pixels": pixels}
                    self.user.report("wrong", series=self.series, **more)


if __name__ == "__main__":
    URL, FOLDER, NUMBER, SEED = sys.argv[1:]
    User(URL, Path(FOLDER), int(NUMBER), int(SEED)).work()
