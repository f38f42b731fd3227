"""What a command imports before its first step, by name: times depend on the machine."""

import json
import subprocess
import sys

from PIL import Image

from maquette.cli.main import UNUSED

REPORT = """
import json, sys
sys.argv = ["maquette", *sys.argv[1:]]
from maquette.cli.main import main
try:
    main()
finally:
    print(json.dumps(sorted(name for name, module in sys.modules.items() if module is not None)))
"""


def test_generating_imports_nothing_that_it_does_not_use(tmp_path) -> None:
    Image.new("RGB", (128, 128), "white").save(tmp_path / "map.png")
    arguments = ["generate", str(tmp_path / "map.png"), "--steps", "1", "-o", str(tmp_path / "out.png")]
    done = subprocess.run([sys.executable, "-c", REPORT, *arguments], check=True, capture_output=True, text=True)
    imported = set(json.loads(done.stdout.splitlines()[-1]))
    assert (tmp_path / "out.png").exists()
    assert {"torch", "diffusers", "transformers"} <= imported
    unused = {*UNUSED, "datasets", "ray", "matplotlib", "pandas", "onnxruntime", "tensorboard"}
    assert sorted(imported & unused) == []
