"""The viewer that the other tests use is a real one, and leaves nothing behind."""

import os

import numpy as np


def test_a_real_viewer_draws_a_layer(viewer):
    viewer.add_image(np.zeros((4, 20, 30)), scale=(3, 1, 1))
    picture = viewer.screenshot(canvas_only=True, flash=False)
    assert picture.shape[2] == 4


def test_nothing_of_an_earlier_test_is_there(viewer):
    assert not viewer.layers
    assert not viewer.window.dock_widgets


def test_the_settings_of_the_user_are_not_used(viewer):
    from napari.settings import get_settings

    assert get_settings().config_path is None
    assert os.environ["NAPARI_CONFIG"] == ""
