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


@pytest.fixture(scope="session")
def own_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module", autouse=True)
def cache_folder(own_cache):
    """No test reads what another run kept, nor fills the user's cache; tests of other packages have the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONCOSEG_CACHE", str(own_cache))
        yield own_cache


@pytest.fixture(scope="module")
def model(atlases, cache_folder):
    return AtlasModel(AtlasSettings(folder=atlases, **FAST))


@pytest.fixture(scope="module")
def single(atlases, cache_folder):
    """The most similar atlas alone is deformed: quicker, where fusion is not what is tested."""
    return AtlasModel(AtlasSettings(folder=atlases, most_atlases=1, **FAST))
