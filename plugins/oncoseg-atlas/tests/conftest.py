import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the phantoms; importlib mode does not add it

from phantoms import ATLASES, FAST, describe, grid, write_case

from oncoseg_atlas.model import AtlasModel
from oncoseg_atlas.settings import AtlasSettings


@pytest.fixture(scope="session")
def atlases(tmp_path_factory):
    """Three cases of generated patients in other places and of other sizes."""
    root = tmp_path_factory.mktemp("atlases")
    for number, patient in enumerate(ATLASES):
        write_case(root / f"Miller^Anna{number}", patient, grid(middle=patient.place))
    describe(root)
    return root


@pytest.fixture(scope="session", autouse=True)
def cache_folder(tmp_path_factory):
    """No test reads what another run kept, nor fills the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("ONCOSEG_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def model(atlases, cache_folder):
    return AtlasModel(AtlasSettings(folder=atlases, **FAST))


@pytest.fixture(scope="session")
def single(atlases, cache_folder):
    """The most similar atlas alone is deformed: quicker, where fusion is not what is tested."""
    return AtlasModel(AtlasSettings(folder=atlases, most_atlases=1, **FAST))
