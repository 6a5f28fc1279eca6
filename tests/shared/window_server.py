"""A server in memory for tests of windows: a click marks a square, a box its inside, an edit what was drawn."""

import copy

import numpy as np

from oncoseg_client import ServerError, decode_mask

SIDE = 3
"""Half the side of the square around a click, in pixels."""


class WindowServer:
    """Answers as ``oncoseg_client.Server`` does; ``fails`` has an error for the next calls until it is cleared."""

    def __init__(self, prompts=("point", "box", "lasso"), models=("small", "small+liver")):
        self.models = [
            {"name": name, "prompts": list(prompts), "notice": f"Licence of {name}: free."} for name in models
        ]
        self.opened, self.fails, self.refuses = [], None, {}

    def info(self):
        self.check()
        return {"models": self.models, "sources": [{"name": "archive"}]}

    def check(self, what=None):
        if self.fails is not None:
            raise self.fails
        if what in self.refuses:
            raise ServerError("refused", self.refuses[what])

    def all_series(self):
        series = {"source": "archive", "study_uid": "1.2", "series_uid": "1.2.3"}
        return [{**series, "modality": "CT", "instances": 6, "description": "chest"}]

    def open_volume(self, voxels, model=None, steps=(), undone=()):
        self.check()
        self.opened.append(WindowRemote(self, voxels, model, steps, undone))
        return self.opened[-1]

    def open(self, source, study_uid, series_uid, model=None, steps=(), undone=()):
        return self.open_volume(self.image, model, steps, undone)


class WindowRemote:
    def __init__(self, server, voxels, model, steps, undone):
        self.server, self.pixels = server, voxels
        self.opened = {"model": model or server.models[0]["name"]}
        self.steps, self.undone, self.masks = list(steps), list(undone), {}
        self.seen, self.saved, self.closed = [], [], False
        self.work()

    @property
    def image(self):
        slices, rows, columns = self.pixels.array.shape[:3]
        return {"slices": slices, "rows": rows, "columns": columns, "affine": self.pixels.affine}

    def work(self):
        shape = self.pixels.array.shape[:3]
        masks = {}
        for step in self.steps:
            mask = masks.setdefault(step["structure"], np.zeros(shape, bool))
            if step["step"] == "remove":
                del masks[step["structure"]]
            elif step["step"] == "propagate":
                mask[:] = mask.any(axis=0)
            elif step["step"] == "edit":
                for one in (step, *step.get("more", ())):
                    part, bits = np.zeros(shape[1:], bool), one["mask"]
                    inside = np.s_[bits["y"] : bits["y"] + bits["height"], bits["x"] : bits["x"] + bits["width"]]
                    part[inside] = decode_mask(bits)
                    mask[one["slice"]] = part
            else:
                for hint in step["hints"] or [{"points": [[5, 5]], "positive": True}]:
                    (x0, y0), (x1, y1) = np.min(hint["points"], axis=0), np.max(hint["points"], axis=0)
                    far = SIDE if len(hint["points"]) == 1 else 0
                    rows, columns = slice(int(y0) - far, int(y1) + far), slice(int(x0) - far, int(x1) + far)
                    mask[step["slice"], rows, columns] = hint["positive"]
        old, self.masks = self.masks, {name: dict(enumerate(mask)) for name, mask in masks.items()}
        changes = [{"structure": name, "slice": k} for name in {**old, **masks} for k in range(shape[0])]
        self.structures = {name: info_of(name, mask) for name, mask in masks.items()}
        self.answer = {"changes": changes, "findings": [], "timing_ms": {}, "steps": len(self.steps)}

    def apply(self, step, progress=None):
        self.server.check(step["step"])
        if step["step"] == "propagate" and progress:
            progress(1, 4)
        self.steps, self.undone = [*self.steps, copy.deepcopy(step)], []
        self.work()

    def undo(self):
        self.server.check()
        self.undone.append(self.steps.pop())
        self.work()

    def redo(self):
        self.server.check()
        self.steps.append(self.undone.pop())
        self.work()

    def view(self, index):
        self.seen.append(index)

    def voxels(self):
        return self.pixels

    def save(self, formats):
        self.server.check("save")
        self.saved.append(list(formats))
        return {"objects": [], "timing_ms": {}}

    def cancel(self):
        self.seen.append("cancel")

    def heartbeat(self):
        pass

    def close(self):
        self.closed = True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def info_of(name, mask):
    voxels = int(mask.sum())
    index = int(mask.any(axis=(1, 2)).argmax())
    line = {"mm": 31.44, "ends_pixels": [[2.5, 3.5], [8.5, 3.5]]}
    return {
        "name": name, "voxels": voxels, "volume_ml": voxels / 1000, "score": 0.875, "long": line, "short": None,
        "diameter_slice": index, "mean": 41.26, "unit": "HU", "findings": ["it touches the edge of the image."],
    }  # fmt: skip
