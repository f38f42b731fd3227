"""What a user gives comes in through few doors, each safe: no file of the source opens one around them."""

import ast
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src" / "maquette"

DOORS = {
    "foundation/reading/files.py",  # regular files of a bounded size
    "foundation/reading/documents.py",  # JSON and TOML
    "foundation/reading/pictures.py",  # pictures of a list of formats
    "foundation/reading/arrays.py",  # NumPy's arrays
    "foundation/weights.py",  # weights, which run no code
}

OPENING = {
    "Image.open", "json.load", "json.loads", "json.JSONDecoder", "tomllib.load", "tomllib.loads", "torch.load",
    "safe_open", "load_file", "safetensors.torch.load", "safetensors.torch.load_file", "np.load", "np.fromfile",
    "np.loadtxt", "np.genfromtxt", "pickle.load", "pickle.loads", "tarfile.open", "zipfile.ZipFile", "open", "os.open",
    "io.open", "yaml.load", "yaml.safe_load", "cv2.imread", "torch.jit.load", "csv.reader",
}  # fmt: skip
"""Calls that read, as they are written in the source."""

OF_PATHS = {"read_bytes", "read_text"}
"""Methods of paths that read; and `open`, unless it writes."""

BY_NAME = {"from_pretrained", "load_config", "from_parquet", "InferenceSession", "read_metadata", "read_schema"}
"""Calls of libraries that open files themselves: their files are checked first."""

ALLOWED = {
    # what maquette wrote itself, in its own folders, and checks by sums or falls back from
    "annotation/output.py": {"json.loads", "read_text", "read_bytes", "open"},
    "annotation/cluster.py": {"pickle.loads"},  # a job, from this process to its own workers
    "annotation/shard_writer.py": {"tarfile.open"},  # writes
    "diorama/dataset.py": {"json.loads", "np.load", "open"},
    "foundation/files.py": {"read_text", "open", "os.open"},
    "sampling/memory/free.py": {"read_text"},  # what the kernel says of memory
    "studio/gallery.py": {"zipfile.ZipFile"},  # writes
    "studio/page/__init__.py": {"read_text"},  # its own script
    "studio/page/figure/__init__.py": {"read_text"},  # its own script and template
    "study/make.py": {"open"},
    "study/server.py": {"read_bytes", "read_text"},
    "study/store.py": {"json.loads"},
    "training/checkpoint.py": {"torch.load", "zipfile.ZipFile", "open"},
    "training/data/tensor_store.py": {"safetensors.torch.load"},
    "training/monitor/broken_rows.py": {"json.loads", "read_bytes"},
    "training/monitor/metrics_log.py": {"json.loads", "read_text", "read_bytes", "open"},
    "training/run.py": {"json.loads", "read_text", "open"},
    # recipes read what they computed a moment before; a user gives them no files
    "recipes": {"torch.load", "json.loads", "from_pretrained"},
    # values typed on the command line, not files
    "foundation/settings.py": {"tomllib.loads"},
    "data/random_options.py": {"tomllib.loads"},
    # libraries that open files by their names, which are checked before
    "conditions/networks/dwpose.py": {"InferenceSession"},
    "conditions/networks/pretrained.py": {"from_pretrained"},
    "conditions/networks/vitpose.py": {"from_pretrained"},
    "conditions/detectors/caption.py": {"from_pretrained"},
    "conditions/detectors/segmentation.py": {"from_pretrained"},
    "data/sources/parquet.py": {"from_parquet", "read_metadata", "read_schema"},
    "metrics/clip.py": {"from_pretrained"},
    "text/clip.py": {"from_pretrained"},
    "text/language.py": {"from_pretrained"},
    "text/sd3.py": {"from_pretrained"},
}
"""Files outside of the doors, or folders, and what they may call."""


def calls(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of each call that reads a file."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name, written = ast.unparse(node.func), node.func
        method = written.attr if isinstance(written, ast.Attribute) else ""
        of_path = len(node.args) <= 2 and method in OF_PATHS
        if name in OPENING or method in BY_NAME or of_path or (method == "open" and _reads(node)):
            yield node.lineno, name if name in OPENING else method


def _reads(node: ast.Call) -> bool:
    """Whether a call of a method `open` may be `Path.open` for reading: constructors of that name take other things."""
    mode = [*node.args[:1], *(keyword.value for keyword in node.keywords if keyword.arg == "mode")]
    if not mode:
        return not node.keywords or {keyword.arg for keyword in node.keywords} <= {"encoding", "buffering", "newline"}
    text = mode[0].value if isinstance(mode[0], ast.Constant) else None
    return isinstance(text, str) and "r" in text


def found() -> list[str]:
    places = []
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        allowed = ALLOWED.get(name, ALLOWED.get(name.split("/")[0], set()))
        if name not in DOORS:
            places += [f"{name}:{line}: {call}" for line, call in calls(path.read_text()) if call not in allowed]
    return places


def test_nothing_opens_files_around_the_doors() -> None:
    assert found() == []


def test_every_way_to_open_is_seen() -> None:
    ways = [
        "Image.open(path)", "json.loads(text)", "torch.load(path)", "safe_open(path, 'pt')", "open(path)",
        "path.open()", "path.open('rb')", "path.open(mode='r')", "path.open(encoding='utf-8')", "path.read_text()",
        "(folder / name).read_bytes()", "AutoConfig.from_pretrained(folder)", "np.load(path)",
    ]  # fmt: skip
    assert [line for line, _ in calls("\n".join(ways))] == list(range(1, len(ways) + 1))
    others = ["path.open('w')", "Writer.open(job, source)", "family.read_text(folder, where, index, backbone)"]
    assert not list(calls("\n".join(others)))


def test_what_is_allowed_is_needed() -> None:
    """No exception outlives its reason."""
    for name, allowed in ALLOWED.items():
        place = SOURCE / name
        files = place.rglob("*.py") if place.is_dir() else [place]
        used = {call for path in files for _, call in calls(path.read_text())}
        assert name.startswith(("training/", "annotation/", "recipes", "foundation/files")) or allowed <= used, name
