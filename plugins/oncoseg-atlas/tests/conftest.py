import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the phantoms; importlib mode does not add it

from phantoms import Patient, describe, grid, write_case

ATLASES = [
    Patient(seed=1),
    Patient(scale=(1.06, 0.96, 1.04), place=(20, -10, 300), bend=6, seed=2),
    Patient(scale=(0.95, 1.05, 0.97), place=(-15, 30, -40), bend=-6, seed=3),
]


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
