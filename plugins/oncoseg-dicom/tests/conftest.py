"""The phantoms that tests share; pytest's importlib mode does not add their folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
