"""Examples of requests, as OpenAPI shows them."""

from __future__ import annotations

from fastapi.openapi.models import Example

OPEN_EXAMPLES: dict[str, Example] = {
    "new": {
        "summary": "Open a series",
        "value": {"source": "pacs", "study_uid": "1.2.3", "series_uid": "1.2.3.4"},
    },
    "volume": {
        "summary": "Open an image that was sent as voxels",
        "value": {"volume": "0123456789abcdef0123456789abcdef"},
    },
    "again": {
        "summary": "Go on after the server was lost",
        "value": {
            "source": "pacs",
            "study_uid": "1.2.3",
            "series_uid": "1.2.3.4",
            "steps": [
                {
                    "step": "prompt",
                    "structure": "tumour",
                    "slice": 31,
                    "hints": [{"kind": "point", "points": [[150.5, 230.5]]}],
                }
            ],
        },
    },
}
STEP_EXAMPLES: dict[str, Example] = {
    "click": {
        "summary": "A click on the object",
        "value": {
            "step": "prompt",
            "structure": "tumour",
            "slice": 31,
            "hints": [{"kind": "point", "points": [[150.5, 230.5]], "positive": True}],
        },
    },
    "box": {
        "summary": "A box, in the place of what was there",
        "value": {
            "step": "prompt",
            "structure": "tumour",
            "slice": 31,
            "hints": [{"kind": "box", "points": [[120, 200], [180, 260]]}],
            "replace": True,
        },
    },
    "mm": {
        "summary": "A click in LPS mm",
        "value": {
            "step": "prompt",
            "structure": "tumour",
            "units": "mm",
            "hints": [{"kind": "point", "points": [[12.5, -40.0, 130.0]]}],
        },
    },
    "edit": {
        "summary": "A mask that a hand drew: 8 x 1 pixels, all of them in it",
        "value": {
            "step": "edit",
            "structure": "tumour",
            "slice": 31,
            "mask": {"x": 10, "y": 20, "width": 8, "height": 1, "bits": "eJz7DwABAAEA"},
        },
    },
    "stroke": {
        "summary": "A stroke of a brush on two slices: one step",
        "value": {
            "step": "edit",
            "structure": "tumour",
            "slice": 31,
            "mask": {"x": 10, "y": 20, "width": 8, "height": 1, "bits": "eJz7DwABAAEA"},
            "more": [{"slice": 32, "mask": {"x": 10, "y": 20, "width": 8, "height": 1, "bits": "eJz7DwABAAEA"}}],
        },
    },
    "propagate": {
        "summary": "Follow a structure through the volume",
        "value": {"step": "propagate", "structure": "tumour"},
    },
    "remove": {"summary": "Take a structure out", "value": {"step": "remove", "structure": "tumour"}},
}
VOLUME_EXAMPLES: dict[str, dict[str, str]] = {
    "ct": {
        "summary": "A CT of 2 x 2 x 2 voxels, in HU",
        "value": '{"shape": [2, 2, 2], "dtype": "int16", "modality": "ct", "affine": '
        "[[0.8, 0, 0, -200], [0, 0.8, 0, -180], [0, 0, 5, 40], [0, 0, 0, 1]]}\n (16 bytes)",
    },
    "picture": {
        "summary": "A colour picture without millimetres",
        "value": '{"shape": [1, 2, 2, 3], "dtype": "uint8", "modality": "dermoscopy"}\n (12 bytes)',
    },
}
VIEW_EXAMPLES: dict[str, Example] = {
    "view": {"summary": "Slice 31 is shown, the mouse is over slice 33", "value": {"slice": 31, "hover": 33}}
}
SAVE_EXAMPLES: dict[str, Example] = {
    "all": {"summary": "SEG, RTSTRUCT and SR", "value": {"formats": ["seg", "rtstruct", "sr"], "label": "OncoSeg"}}
}
