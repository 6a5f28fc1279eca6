from npe2 import PluginManifest


def test_the_manifest_is_one_that_napari_takes():
    manifest = PluginManifest.from_distribution("oncoseg-napari")
    assert [widget.display_name for widget in manifest.contributions.widgets] == ["OncoSeg"]
