"""Strict configuration: what is wrong is found, and said in one line with the nearest key."""

from typing import Annotated, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, field_validator, model_validator

from oncoseg_core import ConfigError, Settings
from oncoseg_core.plugins.configuration import apply_overrides, read_yaml, validate


class Optimizer(Settings):
    learning_rate: Annotated[float, Field(gt=0)] = 1e-3
    weight_decay: float = 0.0


class Window(Settings):
    low: float = 0.0
    high: float = 1.0

    @model_validator(mode="after")
    def _increasing(self):
        if self.low >= self.high:
            raise ValueError("HU: low must be below high")
        return self


class Step(Settings):
    name: str
    windows: dict[str, Window] = Field(default_factory=dict)


class Config(Settings):
    epochs: Annotated[int, Field(ge=1)] = 1
    device: Literal["cpu", "cuda"] = "cpu"
    optimizer: Optimizer = Optimizer()
    other: Optimizer | Window | None = None
    steps: tuple[Step, ...] = ()
    few: tuple[Step, ...] = Field(default=(Step(name="one"),), min_length=1)
    tags: list[str] = Field(default_factory=list)

    @field_validator("tags")
    @classmethod
    def _short(cls, tags):
        if any(len(tag) > 200 for tag in tags):
            raise ValueError("TAGS are\nshort")
        return tags


def problem(values):
    with pytest.raises(ConfigError) as caught:
        validate(Config, values, "run.yaml")
    message = str(caught.value)
    assert message.startswith("run.yaml: ")
    assert "\n" not in message
    return message.removeprefix("run.yaml: ")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 2}, "unknown key 'epoch'; did you mean 'epochs'?"),
        ({"zzz": 2}, "unknown key 'zzz'; known: device, epochs, few, optimizer, other, steps, tags"),
        ({"optimizer": {"learning_rat": 1}}, "unknown key 'optimizer.learning_rat'; did you mean 'learning_rate'?"),
        (
            {"steps": [{"name": "a"}, {"name": "b", "windows": {"lung": {"hihg": 3}}}]},
            "unknown key 'steps.1.windows.lung.hihg'; did you mean 'high'?",
        ),
        ({"steps": [{}]}, "missing key 'steps.0.name'"),
        ({"epochs": 0}, "epochs = 0: input should be greater than or equal to 1"),
        ({"epochs": "many"}, "epochs = 'many': input should be a valid integer, unable to parse string as an integer"),
        ({"device": "gpu"}, "device = 'gpu': input should be 'cpu' or 'cuda'"),
        ({"optimizer": None}, "optimizer = None: input should be a valid dictionary or instance of Optimizer"),
        ({"optimizer": {"learning_rate": -1}}, "optimizer.learning_rate = -1: input should be greater than 0"),
        (
            {"steps": [{"name": "a", "windows": {"lung": {"low": 2}}}]},
            "steps.0.windows.lung = {'low': 2}: HU: low must be below high",
        ),
        ({"few": [{"name": "a", "nam": 1}]}, "unknown key 'few.0.nam'; did you mean 'name'?"),
        ({"few": []}, "few = []: tuple should have at least 1 item after validation, not 0"),
        ({True: 2}, "key True is not text; put it in quotes"),
        (
            {"epoch": 2, "device": "gpu"},
            "device = 'gpu': input should be 'cpu' or 'cuda'; unknown key 'epoch'; did you mean 'epochs'?",
        ),
    ],
)
def test_what_is_wrong_is_named_at_any_depth(values, message):
    assert problem(values) == message


def test_keys_of_every_model_that_may_stand_there_are_known():
    message = problem({"other": {"learning_rat": 1, "hihg": 2}})
    assert "did you mean 'learning_rate'?" in message
    assert "did you mean 'high'?" in message


def test_a_long_value_is_cut_and_a_message_of_several_lines_made_one():
    message = problem({"tags": ["x" * 500]})
    assert message.startswith("tags = ['xxx")
    assert message.endswith("…: TAGS are short")
    assert len(message) < 200


def test_a_check_of_the_whole_does_not_repeat_the_whole():
    with pytest.raises(ConfigError) as caught:
        validate(Window, {"low": 3}, "settings")
    assert str(caught.value) == "settings: HU: low must be below high"


def test_what_is_right_is_taken():
    config = validate(Config, {"epochs": 3, "optimizer": {"learning_rate": "1e-4"}}, "run.yaml")
    assert (config.epochs, config.optimizer.learning_rate, config.device) == (3, 1e-4, "cpu")


@given(st.sampled_from([*Config.model_fields]), st.data())
def test_any_slip_of_one_letter_is_answered_with_the_key(key, data):
    place = data.draw(st.integers(0, len(key) - 1))
    slip = key[:place] + key[place + 1 :]
    if slip not in Config.model_fields:
        assert repr(key) in problem({slip: 1})


# Files.


def read(tmp_path, content):
    path = tmp_path / "run.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_yaml(path)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("", {}),
        ("# nothing\n---\n", {}),
        ("a: 1\nb: {c: [x, y]}\n", {"a": 1, "b": {"c": ["x", "y"]}}),
        ("\ufeffa: Größe\n", {"a": "Größe"}),
        ("a: {x: 1}\nb: {x: 2}\nc: [{x: 3}, {x: 4}]\n", {"a": {"x": 1}, "b": {"x": 2}, "c": [{"x": 3}, {"x": 4}]}),
        ("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\n", {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}}),
    ],
)
def test_a_file_is_read(tmp_path, text, values):
    assert read(tmp_path, text) == values


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: key 'a' is given twice; keep one"),
        ("a:\n  b: 2\n  'b': 3\n", "line 3: key 'b' is given twice; keep one"),
        ("- a\n- b\n", "expected keys and values at the top level, found list"),
        ("just words", "expected keys and values at the top level, found str"),
        ("a: 1\n  b: 2\n", "not valid YAML, line 2: mapping values are not allowed here"),
        ("a: [1, 2\n", "not valid YAML, line 2: "),
        ("? [a, b]\n: 1\n", "not valid YAML, line 1: found unhashable key"),
        ("a: 1\n---\nb: 2\n", "not valid YAML, line 2: but found another document"),
        ("a: !!python/object/apply:os.getcwd []\n", "not valid YAML, line 1: could not determine a constructor"),
        ("[" * 5000, "nested too deeply"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not text in UTF-8; expected YAML"),
        (b"a: \x00\x01", "not valid YAML: "),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_in_one_line(tmp_path, content, message):
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, content)
    assert str(caught.value).startswith(f"{tmp_path / 'run.yaml'}: {message}")
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    with pytest.raises(ConfigError) as caught:
        read_yaml(tmp_path / "absent.yaml")
    assert str(caught.value) == f"{tmp_path / 'absent.yaml'}: No such file or directory; expected a readable YAML file"
    with pytest.raises(ConfigError) as caught:
        read_yaml(tmp_path)
    assert str(caught.value) == f"{tmp_path}: Is a directory; expected a readable YAML file"


# Overrides.


@pytest.mark.parametrize(
    ("overrides", "values"),
    [
        ([], {"a": {"b": 1, "c": [1]}, "e": None}),
        (["a.b=2"], {"a": {"b": 2, "c": [1]}, "e": None}),
        (["a.b=2", "a.b=3"], {"a": {"b": 3, "c": [1]}, "e": None}),
        (["a.c=[x, y]", "d=true"], {"a": {"b": 1, "c": ["x", "y"]}, "e": None, "d": True}),
        (["a={z: 1}"], {"a": {"z": 1}, "e": None}),
        (["e.f.g=text=more"], {"a": {"b": 1, "c": [1]}, "e": {"f": {"g": "text=more"}}}),
        (["new.deep=1.5"], {"a": {"b": 1, "c": [1]}, "e": None, "new": {"deep": 1.5}}),
        (["a.b="], {"a": {"b": None, "c": [1]}, "e": None}),
    ],
)
def test_overrides_are_applied_in_order_to_a_copy(overrides, values):
    before = {"a": {"b": 1, "c": [1]}, "e": None}
    assert apply_overrides(before, overrides) == values
    assert before == {"a": {"b": 1, "c": [1]}, "e": None}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs", "--set epochs: expected KEY=VALUE, such as --set training.epochs=2"),
        ("=3", "--set =3: expected KEY=VALUE, such as --set training.epochs=2"),
        ("a..b=3", "--set a..b=3: expected KEY=VALUE, such as --set training.epochs=2"),
        ("a.b.c=3", "--set a.b.c=3: 'b' holds 1, not keys and values"),
        ("c.0=3", "--set c.0=3: 'c' holds [1], not keys and values; a list is set as a whole"),
        ("a.b=[1", "--set a.b=[1: not valid YAML, line 1: "),
        ("a={x: 1, x: 2}", "--set a={x: 1, x: 2}: line 1: key 'x' is given twice; keep one"),
    ],
)
def test_an_override_that_cannot_be_applied_is_refused(override, message):
    with pytest.raises(ConfigError) as caught:
        apply_overrides({"a": {"b": 1}, "c": [1]}, [override])
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


# What YAML 1.1 makes of texts that mean something else.


class Plan(Settings):
    """A field of each kind."""

    count: int | Literal["auto"] = 1
    rate: float = 0.5
    flag: bool = False
    name: str = ""
    counts: tuple[int, ...] = ()
    choice: frozenset[int] = frozenset()
    by_name: dict[str, frozenset[int]] = Field(default_factory=dict)
    steps: tuple[Step, ...] = ()


@pytest.mark.parametrize("value", ["on", "yes", "off", "1:30", "010", "true", "0o17", "0b11", "2024-01-01"])
@pytest.mark.parametrize("key", ["count", "rate", "counts=[{}]", "choice=[{}]", "by_name.t=[3, {}]"])
def test_a_value_that_is_no_number_does_not_become_one(key, value):
    override = key.format(value) if "=" in key else f"{key}={value}"
    with pytest.raises(ConfigError):
        validate(Plan, apply_overrides({}, [override]), "plan")


def test_a_truth_among_numbers_is_named_by_its_place():
    for override, at in (("count=true", "count"), ("counts=[2, false]", "counts.1"), ("by_name.t=[true]", "by_name.t")):
        with pytest.raises(ConfigError, match=f"plan: {at} is true or false; expected a number"):
            validate(Plan, apply_overrides({}, [override]), "plan")


def test_a_number_with_a_leading_zero_is_refused_and_in_quotes_text():
    with pytest.raises(ConfigError, match="--set name=010: line 1: 010 begins with a zero"):
        apply_overrides({}, ["name=010"])
    assert validate(Plan, apply_overrides({}, ["name='010'"]), "plan").name == "010"


@pytest.mark.parametrize(
    ("text", "value"),
    [("on", "on"), ("No", "No"), ("1:30", "1:30"), ("2024-01-02", "2024-01-02"), ("true", True), ("FALSE", False),
     ("7", 7), ("-7", -7), ("0", 0), ("0x1f", 31), ("1_000", 1000), ("1.5", 1.5), ("-.5", -0.5), ("1.0e+3", 1000.0),
     ("1e-4", "1e-4"), ("08", "08"), (".inf", float("inf")), ("~", None), ("", None), ("null", None), ("a b", "a b")],
)  # fmt: skip
def test_plain_values_are_what_they_look_like(text, value):
    read = apply_overrides({}, [f"key={text}"])["key"]
    assert (type(read), read) == (type(value), value)


def test_words_are_still_taken_where_a_switch_is_expected():
    for word, expected in (("on", True), ("no", False), ("true", True)):
        assert validate(Plan, apply_overrides({}, [f"flag={word}"]), "plan").flag is expected
    assert validate(Plan, apply_overrides({}, ["rate=1e-4"]), "plan").rate == 1e-4


TEXTS = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=8)
SCALARS = st.one_of(TEXTS, st.integers(), st.booleans(), st.none(), st.floats(allow_nan=False))


@given(st.dictionaries(TEXTS, st.one_of(SCALARS, st.lists(SCALARS, max_size=3)), max_size=5))
def test_what_yaml_writes_comes_back_as_it_was(tmp_path_factory, values):
    """A run's configuration is written by PyYAML, which puts quotes by the rules of YAML 1.1."""
    path = tmp_path_factory.mktemp("yaml") / "a.yaml"
    path.write_text(yaml.safe_dump(values, allow_unicode=True), encoding="utf-8", newline="")
    assert read_yaml(path) == values


def test_aliases_that_grow_without_bound_are_refused_at_once(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    lists = "\n".join(lines)
    merges = "a0: &a0 {x: 1}\n" + "\n".join(
        f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 12)
    )
    for text in (lists, merges, "a: &a [*a]", "a: &a {b: *a}"):
        with pytest.raises(ConfigError, match=r"run\.yaml: its aliases stand for more than 100000 values"):
            read(tmp_path, text.encode())


def test_a_few_aliases_and_a_long_list_are_taken(tmp_path):
    text = "base: &base {rate: 1}\nother: {<<: *base, name: x}\n" + f"ids: [{', '.join(map(str, range(20000)))}]\n"
    values = read(tmp_path, text.encode())
    assert values["other"] == {"rate": 1, "name": "x"}
    assert len(values["ids"]) == 20000
