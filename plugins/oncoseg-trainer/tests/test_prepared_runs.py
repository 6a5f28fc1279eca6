"""A run from a prepared store is the run from the folder, byte for byte."""

import pytest
import torch

from oncoseg_core import DataError, load_plugins
from oncoseg_store.one_case import PreparationJob
from oncoseg_store.preparing import prepare_dataset
from oncoseg_trainer.config.settings import load_settings
from oncoseg_trainer.loop.run import train

SHORT = {"epochs": 1, "batch_size": 2, "learning_rate": 0.01, "score_every_epoch": False}


def run(path, *overrides):
    return train(load_settings(str(path), list(overrides)), load_plugins())


@pytest.mark.parametrize("mode", ["labelled", "foreground"])
def test_a_prepared_store_changes_nothing(toy, toy_config, tmp_path, mode):
    root = toy("toy-a", [{"slices": (1,), "core": ()} if n == 2 else {} for n in range(6)])
    store = tmp_path / "store"
    prepare_dataset(load_plugins(), PreparationJob("toy-a", store, {}, {}), root, 1)
    results = []
    for name, place in (("folder", {"root": str(root)}), ("store", {"prepared": str(store)})):
        data = {"dataset": "toy-a", "targets": ["core", "tumour"], "split": {"how": "made"}, **place}
        results.append(
            run(toy_config(data, training=SHORT, sampling={"mode": mode}), f"output={tmp_path / f'run-{name}'}")
        )
    folder, prepared = results
    assert (folder.folder / "metrics.jsonl").read_bytes() == (prepared.folder / "metrics.jsonl").read_bytes()
    one, other = (
        torch.load(*(each.folder / "checkpoints").glob("step-*.pt"), weights_only=True)["trainable"] for each in results
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    for name in ("split.json", "adapter/trained_on.txt"):
        assert (folder.folder / name).read_bytes() == (prepared.folder / name).read_bytes()
    assert prepared.summary["datasets"][0]["prepared"] is True
    if mode == "foreground":
        again = run(
            toy_config(data, training={**SHORT, "workers": 1}, sampling={"mode": mode}), f"output={tmp_path / 'w'}"
        )
        assert (again.folder / "metrics.jsonl").read_bytes() == (folder.folder / "metrics.jsonl").read_bytes()


def test_a_store_with_other_statistics_is_refused(toy, toy_config, tmp_path):
    root = toy("toy-a", [{"split": "train"}, {"split": "test"}])
    store = tmp_path / "store"
    prepare_dataset(load_plugins(), PreparationJob("toy-a", store, {}, {}), root, 1)
    config = toy_config({"dataset": "toy-a", "prepared": str(store)}, training=SHORT)
    with pytest.raises(DataError, match="statistics were made with settings"):
        run(config, "normalizers.ct.window=[-100, 100]")
