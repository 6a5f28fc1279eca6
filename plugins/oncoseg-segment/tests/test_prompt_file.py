"""A file of prompts: what it means, and that nothing in it is ignored."""

import json

import pytest

from oncoseg_core import OncoSegError
from oncoseg_segment.prompts.prompt_file import PromptFile, StructureInFile, read_prompts
from oncoseg_segment.prompts.structure_request import Hint


def written(tmp_path, content):
    path = tmp_path / "prompts.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_every_key_is_read(tmp_path):
    content = {
        "units": "mm",
        "structures": [
            {
                "name": "liver tumour", "box": [1, 2, 3, 4, 5, 6], "points": [[1, 2, 3.5]], "negative_points": [[7, 8, 9]],
                "text": "tumour", "exemplars": [[1, 1, 1, 2, 2, 1]], "negative_exemplars": [[3, 3, 3, 4, 4, 3]],
                "scribbles": [[[1, 2, 3], [4, 5, 3]]], "negative_scribbles": [[[1, 2, 3], [4, 5, 3], [6, 6, 3]]],
                "lasso": [[1, 1, 3], [5, 1, 3], [5, 5, 3]], "slice": 31, "slices": "28:34", "propagate": True,
            },
            {"name": "liver", "text": "liver"},
        ],
    }  # fmt: skip
    assert set(content) == set(PromptFile.model_fields)
    assert set(content["structures"][0]) == set(StructureInFile.model_fields)
    tumour, liver = read_prompts(written(tmp_path, content))
    assert (tumour.name, tumour.text, tumour.units) == ("liver tumour", "tumour", "mm")
    assert (tumour.slice_index, tumour.slices, tumour.propagate) == (31, "28:34", True)
    assert [(hint.kind, hint.numbers, hint.positive) for hint in tumour.hints] == [
        ("box", (1, 2, 3, 4, 5, 6), True),
        ("point", (1, 2, 3.5), True),
        ("point", (7, 8, 9), False),
        ("exemplar", (1, 1, 1, 2, 2, 1), True),
        ("exemplar", (3, 3, 3, 4, 4, 3), False),
        ("scribble", (1, 2, 3, 4, 5, 3), True),
        ("scribble", (1, 2, 3, 4, 5, 3, 6, 6, 3), False),
        ("lasso", (1, 1, 3, 5, 1, 3, 5, 5, 3), True),
    ]
    assert (liver.hints, liver.kinds, liver.propagate) == ((), {"text"}, False)


def test_pixels_are_the_default(tmp_path):
    (one,) = read_prompts(written(tmp_path, {"structures": [{"name": "a", "box": [1, 2, 3, 4]}]}))
    assert one.units == "voxel"
    assert one.hints == (Hint("box", (1.0, 2.0, 3.0, 4.0), True, "box [1.0, 2.0, 3.0, 4.0]"),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"structures": [{"name": "a", "boxx": [1, 2, 3, 4]}]}, r"unknown key 'structures.0.boxx'; did you mean 'box'\?"),
        ({"unit": "mm", "structures": []}, r"unknown key 'unit'; did you mean 'units'\?"),
        ({"structures": []}, "structures = .*at least 1 item"),
        ({}, "missing key 'structures'"),
        ({"structures": [{"box": [1, 2, 3, 4]}]}, "missing key 'structures.0.name'"),
        ({"structures": [{"name": "a"}]}, r"structure 1 \('a'\): no prompt was given: expected box, points, text or exemplars"),
        ({"structures": [{"name": "a", "box": [1, 2, 3]}]}, "structures.0.box"),
        ({"structures": [{"name": "a", "box": [4, 2, 3, 4]}]}, r"structure 1 \('a'\): box .* has no area"),
        ({"structures": [{"name": "a", "box": [1, 2, 3, 4, 5]}]}, r"box \[1.0, 2.0, 3.0, 4.0, 5.0\]: expected four numbers"),
        ({"structures": [{"name": "a", "box": "1,2,3,4"}]}, "structures.0.box"),
        ({"structures": [{"name": "a", "lasso": [[1, 1], [5, 1, 2], [5, 5]]}]}, r"lasso \[\[1.0, 1.0\], .*: expected points x,y,x,y,... in pixels"),
        ({"structures": [{"name": "a", "lasso": [[1, 1], [5, 5]]}]}, r"expected points x,y,x,y,... in pixels, at least 3, or"),
        ({"structures": [{"name": "a", "scribbles": [[[1, 1, 2], [5, 5, 3]]]}]}, "expected points of one slice, with its index z"),
        ({"structures": [{"name": "a", "text": " "}]}, "the text prompt is empty"),
        ({"structures": [{"name": "a", "text": "b", "propagate": "no"}]}, "structures.0.propagate = 'no'"),
        ({"structures": [{"name": "a", "text": "b", "slice": 1.5}]}, "structures.0.slice = 1.5"),
        ({"units": "inch", "structures": [{"name": "a", "text": "b"}]}, "units = 'inch'"),
        ('{"structures": [{"name": "a", "name": "b", "text": "c"}]}', "key 'name' is given twice; keep one"),
        ('{"structures": [', "not valid JSON, line 1"),
        ('{"structures": [{"name": "a", "box": [1, 2, NaN, 4]}]}', "structures.0.box.2"),
        ("[1]", "expected {'structures': "),
        ("[" * 100_000, "nested too deeply|not valid JSON"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line_with_the_file(tmp_path, content, message):
    path = written(tmp_path, content)
    with pytest.raises(OncoSegError, match=message) as error:
        read_prompts(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_a_file_that_is_not_there_or_no_text(tmp_path):
    with pytest.raises(OncoSegError, match="expected a readable JSON file"):
        read_prompts(tmp_path / "none.json")
    (tmp_path / "scan.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OncoSegError, match="not text in UTF-8"):
        read_prompts(tmp_path / "scan.json")


def test_a_huge_file_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("oncoseg_segment.prompts.prompt_file.LARGEST_FILE", 10)
    with pytest.raises(OncoSegError, match="expected a file of prompts"):
        read_prompts(written(tmp_path, {"structures": []}))
