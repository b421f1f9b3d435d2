"""Makes the phantoms of this folder importable: tests are collected by importlib."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
