"""The stand-ins that several tests share lie beside them; importlib mode does not add the folder."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
