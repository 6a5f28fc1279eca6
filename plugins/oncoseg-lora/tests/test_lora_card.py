"""The card says what the manifest says, in a form that the hub reads, and names no case and no patient."""

import json
import re
from html.parser import HTMLParser

import pytest
import yaml
from markdown_it import MarkdownIt
from pydantic import ValidationError
from toy_model import SPEC, trained

from oncoseg_core import Licence
from oncoseg_core.path.settings import PathSettings
from oncoseg_lora.card import DatasetFacts, Evidence, render_card
from oncoseg_lora.leakage import TrainedOn
from oncoseg_lora.manifest import (
    LeakageRecord,
    MetricRow,
    ScoreSummary,
    SplitRecord,
    SplitSide,
    read_manifest,
)
from oncoseg_lora.store import save_adapter

EVIDENCE = Evidence(
    splits=SplitRecord(
        sha256="c" * 64,
        how="made",
        sides=(
            SplitSide(dataset="msd-lung", side="train", used_for="training", n_cases=40, n_patients=39),
            SplitSide(dataset="msd-lung", side="test", used_for="scoring", n_cases=12, n_patients=11),
        ),
    ),
    metrics=(
        MetricRow(
            metric="hd95",
            unit="mm",
            better="lower",
            dataset="msd-lung",
            target="lung|tumour",
            split="test",
            prompt="box",
            prompt_settings={"margin_px": [2, 2]},
            n_cases=12,
            before=ScoreSummary(mean=14.25, std=3.5, n_cases=12),
            after=ScoreSummary(mean=6.125, std=2.0, n_cases=11),
        ),
    ),
    leakage=LeakageRecord(n_certain=0, n_suspected=0),
    datasets=(
        DatasetFacts(
            name="msd-lung", licence="CC BY-SA 4.0", citation="Simpson 2019", url="http://medicaldecathlon.com"
        ),
    ),
    notes=("Three cases\nwere not scored.",),
)


def saved(folder, evidence=EVIDENCE, spec=SPEC):
    model = trained("lora+decoder")
    model.base_model.model.spec = spec
    seen = TrainedOn(("msd-lung",), frozenset({"d" * 64}))
    path = PathSettings(normalizers={"ct": {"window": [-160, 240]}})
    save_adapter(
        model,
        folder,
        versions={"peft": "0.21"},
        paths={"ct": path},
        trained_on=seen,
        evidence=evidence,
    )
    return (folder / "README.md").read_text()


def front_matter(card):
    _, fields, _ = card.split("---\n", 2)
    return yaml.safe_load(fields)


def test_the_front_matter_is_the_hubs(tmp_path):
    fields = front_matter(saved(tmp_path, spec=SPEC.model_copy(update={"hub_id": "facebook/sam3"})))
    assert fields["library_name"] == "peft"
    assert fields["base_model"] == "facebook/sam3"
    assert fields["license"] == "other"
    assert fields["tags"] == ["oncoseg", "lora", "medical", "image-segmentation", "toy", "ct"]
    assert "base_model" not in front_matter(saved(tmp_path))
    assert front_matter(saved(tmp_path, EVIDENCE.model_copy(update={"licence": "cc-by-4.0"})))["license"] == "cc-by-4.0"


def test_the_card_holds_what_a_reader_needs(tmp_path):
    card = saved(tmp_path)
    manifest = read_manifest(tmp_path)
    assert (manifest.splits, manifest.metrics, manifest.leakage) == (
        EVIDENCE.splits,
        EVIDENCE.metrics,
        EVIDENCE.leakage,
    )
    for part in (
        "known by `random:0`",
        "rank 3, alpha 7, dropout 0.1, on the linear layers `qkv`, `proj`",
        "Policy: `lora+decoder`; trained whole besides: `mask_decoder`",
        r"| ct | ct: {'window': \[-160, 240\]} | as by default |",
        "| msd-lung | CC BY-SA 4.0 | Simpson 2019 | http:\\//medicaldecathlon.com |",
        f"Split: made, SHA-256 `{'c' * 64}`",
        "| msd-lung | train | training | 40 | 39 |",
        "| msd-lung | lung\\|tumour | test | box | 12 | hd95 (mm) | lower | 14.250 ± 3.500 | 6.125 ± 2.000 (11) |",
        r"Prompts of kind box were made with {'margin_px': \[2, 2\]}.",
        "none was found",
        "- Three cases were not scored.",
        "oncoseg segment IMAGE --model toy --modality ct --adapter",
        "no medical device",
        "- peft 0.21",
    ):
        assert part in card, part


def test_the_licence_of_the_model_and_what_it_bars_are_in_the_card(tmp_path):
    licence = Licence(code="Free", weights="For study", bars="military use", non_commercial=True)
    card = saved(tmp_path, spec=SPEC.model_copy(update={"licence": licence}))
    said = "Licence of the model: code Free; weights For study. It bars military use. Commercial use is not allowed."
    assert said in card
    assert "not stated in its record" in saved(tmp_path)


def test_what_is_not_known_is_said(tmp_path):
    save_adapter(trained(), tmp_path, versions={}, paths={"ct": PathSettings()})
    card = (tmp_path / "README.md").read_text()
    for part in (
        "Which data it was trained on was not recorded",
        "The split was not recorded",
        "nothing is known of how well it does",
    ):
        assert part in card
    unscored = EVIDENCE.metrics[0].model_copy(update={"before": None, "after": ScoreSummary(mean=None, n_cases=0)})
    card = saved(tmp_path, Evidence(metrics=(unscored,)))
    assert "| not scored | undefined |" in card
    assert "was not looked for" in card


@pytest.mark.parametrize(
    ("leakage", "said"),
    [((2, 1), "**Leakage: these scores are no test.** 2 times"), ((0, 3), "none certain, 3 suspected")],
)
def test_leakage_is_said_beside_the_scores(tmp_path, leakage, said):
    certain, suspected = leakage
    found = LeakageRecord(n_certain=certain, n_suspected=suspected)
    assert said in saved(tmp_path, EVIDENCE.model_copy(update={"leakage": found}))


def test_a_card_of_a_record_alone(tmp_path):
    """What the manifest knows comes back from its file: nothing of it is lost on the way."""
    saved(tmp_path)
    manifest = read_manifest(tmp_path)
    card = render_card(manifest, SPEC, EVIDENCE)
    assert card == (tmp_path / "README.md").read_text()
    assert "d" * 64 not in card
    assert "d" * 64 not in json.dumps(manifest.model_dump(mode="json"))


HOSTILE = ("<script>alert(1)</script>", "[click](http://a.example)", "![x](http://a.example/p.png)", "http://a.example",
    "www.a.example", "**bold** _a_ `b` ~~c~~", "a | b\n\n# title", "<http://a.example>", "&lt;b&gt;", "\x1b[2Jx", "\\[a](b)")  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_no_markup(tmp_path, name):
    """Rendered as the hub does, each name is the text that it is."""
    metrics = (EVIDENCE.metrics[0].model_copy(update={"target": name}),)
    facts = (EVIDENCE.datasets[0].model_copy(update={"name": name, "citation": name}),)
    card = saved(tmp_path, EVIDENCE.model_copy(update={"metrics": metrics, "datasets": facts, "notes": (name,)}))
    plain = saved(tmp_path, EVIDENCE.model_copy(update={"notes": ("x",)}))
    page, expected = Tags(), Tags()
    renderer = MarkdownIt("commonmark").enable(["table", "strikethrough"])  # HTML passes
    page.feed(renderer.render(card.partition("\n---\n")[2]))
    expected.feed(renderer.render(plain.partition("\n---\n")[2]))
    assert page.tags == expected.tags
    assert "\x1b" not in card
    assert not re.search(r"http://a|www\.a", card)  # which would be links without any markup
    assert " ".join(name.split()).replace("\x1b", "\\x1b") in page.text


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data


def test_records_are_strict():
    with pytest.raises(ValidationError, match="patients"):
        Evidence(patients=("A",))
