"""The page that explains the node's settings: its example is one, and every key is explained."""

import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from oncoseg_core import AutomaticModelSpec, load_plugins
from oncoseg_node.config import settings as kinds
from oncoseg_node.config.read import read_settings
from oncoseg_structures import read_protocol

PAGE = (Path(__file__).parents[3] / "docs" / "how-to" / "node.md").read_text()
EXAMPLE = re.search(r"```yaml\n(data:.*?)```", PAGE, re.DOTALL).group(1)


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "node.yaml").write_text(EXAMPLE)
    return read_settings(tmp_path / "node.yaml")


def test_the_example_names_protocols_structures_and_models_that_there_are(settings):
    registry = load_plugins()
    for rule in settings.rules:
        names = {one.name for one in read_protocol(rule.protocol).structures}
        assert set(rule.structures or ()) <= names
        for key in rule.models:
            assert set(settings.models[key].structures or ()) <= names
    for model in settings.models.values():
        spec = registry.get(AutomaticModelSpec, model.model)
        module, _, attribute = spec.factory.partition(":")
        factory = getattr(__import__(module, fromlist=[attribute]), attribute)
        assert set(model.settings) <= set(factory.Settings.model_fields)


def test_what_the_table_says_of_defaults_is_so():
    node = kinds.NodeSettings.model_fields
    assert (node["quiet_seconds"].default, node["again"].default) == (30.0, False)
    work, keep = kinds.WorkSettings(), kinds.KeepSettings()
    assert (work.silent_seconds, work.attempts, work.backoff_seconds) == (900, 5, (10, 60, 300, 1800))
    assert (work.off_peak, work.devices) == (("19:00", "06:00"), ("cpu",))
    assert (keep.images_days, keep.results_days, keep.free_bytes) == (2, 30, 5 * 2**30)
    dicom, web = kinds.DicomReceiver(), kinds.WebReceiver()
    assert (dicom.ae_title, dicom.port, dicom.most_associations, dicom.silent_seconds) == ("ONCOSEG", 11112, 10, 60)
    assert (web.port, web.stow) == (8043, True)
    require = kinds.Requirements()
    assert (require.contrast, require.slices, require.spacing_mm) == ("any", (10, 2000), (0.3, 6.0))
    assert kinds.ReceiveSettings().most_instances == 20_000


@pytest.mark.parametrize(
    "model",
    [one for one in vars(kinds).values() if isinstance(one, type) and issubclass(one, BaseModel) and one.__module__ == kinds.__name__],
)  # fmt: skip
def test_every_key_is_explained(model):
    explained = PAGE[PAGE.index("## Every key") :] + EXAMPLE
    assert [key for key in model.model_fields if not re.search(rf"\b{key}\b", explained)] == []


def test_the_other_files_on_the_page_are_what_they_are_for():
    unit = re.search(r"```ini\n(.*?)```", PAGE, re.DOTALL).group(1)
    assert "ExecStart=/opt/oncoseg/bin/oncoseg node run " in unit
    orthanc = yaml.safe_load(re.search(r"```json\n(.*?)```", PAGE, re.DOTALL).group(1))
    entry = orthanc["DicomModalities"]["oncoseg"]
    assert (entry["AET"], entry["Port"]) == (kinds.DicomReceiver().ae_title, kinds.DicomReceiver().port)
