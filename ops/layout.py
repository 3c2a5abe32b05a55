"""Where things lie in a checkout."""

import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
LOCAL = ROOT / ".local"

# Tells this checkout's directories outside it from those of other checkouts.
TAG = hashlib.sha256(str(ROOT).encode()).hexdigest()[:10]
