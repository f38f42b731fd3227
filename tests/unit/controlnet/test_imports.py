"""Importing `ControlNet` does not import unrelated libraries."""

import subprocess
import sys

PROGRAM = """
import sys
from maquette.controlnet.network import ControlNet
unrelated = ("cv2", "maquette.conditions")
found = [name for name in sys.modules if name.startswith(unrelated)]
assert not found, found
"""


def test_neither_opencv_nor_a_detector_is_imported() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=60)
