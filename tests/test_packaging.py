"""What gets installed: every package, every data file, under names of our own, and no torch on import."""

import importlib.metadata
import json
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

import autopose

# Import names of what autopose depends on, optional packages included.
DEPENDENCIES = {
    *("PIL", "av", "cuda", "cv2", "google", "hypothesis", "matplotlib", "numpy", "onnx", "onnxruntime", "onnxscript"),
    *("pandas", "pyarrow", "pycocotools", "pycuda", "pydantic", "pytest", "ray", "rich", "safetensors", "scipy"),
    *("supervision", "tensorboard", "tensorrt", "tensorrt_rtx", "torch", "torchvision", "typer", "yaml"),
}
# Root folder -> the package that it installs as.
ROOTS = {
    name: name if name == "autopose" else f"autopose.{name}" for name in ("autopose", "search", "export", "runtime")
}


@pytest.fixture(scope="module")
def project(repository: Path) -> dict[str, Any]:
    return tomllib.loads((repository / "pyproject.toml").read_text())


def _source_files(repository: Path) -> list[tuple[str, Path]]:
    """List (dotted name of the installed folder, file) of the four root folders; the links are not followed."""
    found = []
    for folder, package in ROOTS.items():
        for path in sorted((repository / folder).rglob("*")):
            relative = path.relative_to(repository / folder)
            if "__pycache__" in relative.parts or path.is_symlink() or not path.is_file():
                continue
            if not path.name.startswith("."):
                found.append((".".join([package, *relative.parts[:-1]]), path))
    return found


@pytest.mark.parametrize("extra", ["trt", "trt-rtx"])
def test_an_extra_that_builds_engines_can_run_them(project: dict[str, Any], extra: str) -> None:
    """Without a CUDA package the parity gate would leave an engine out, and no session would open it."""
    names = [requirement.split(">")[0] for requirement in project["project"]["optional-dependencies"][extra]]
    assert any(name.startswith("tensorrt") for name in names)
    assert "cuda-python" in names


def test_every_package_on_disk_is_listed(repository: Path, project: dict[str, Any]) -> None:
    on_disk = {package for package, path in _source_files(repository) if path.suffix == ".py"}
    assert on_disk == set(project["tool"]["setuptools"]["packages"])


def test_no_module_is_named_like_a_dependency_or_the_standard_library(repository: Path) -> None:
    # Running a file by path puts its folder first on sys.path: onnx.py would then hide onnx from every import.
    taken = DEPENDENCIES | sys.stdlib_module_names
    clashes = [
        str(path.relative_to(repository))
        for _, path in _source_files(repository)
        if path.suffix == ".py" and path.stem in taken
    ]
    assert clashes == []


def test_modules_stay_small_and_have_a_subject(repository: Path) -> None:
    modules = [path for _, path in _source_files(repository) if path.suffix == ".py"]
    assert [str(p) for p in modules if p.stem in ("utils", "util", "helpers", "common", "misc")] == []
    assert [str(p) for p in modules if len(p.read_text(encoding="utf-8").splitlines()) > 350] == []


@pytest.mark.parametrize("name", ["search", "export", "runtime"])
def test_links_for_tree_readers_resolve(repository: Path, name: str) -> None:
    link = repository / "autopose" / name
    if not link.is_symlink():
        pytest.skip("this checkout has no symbolic links")
    assert link.readlink() == Path("..") / name  # relative: survives a clone
    assert (link / "__init__.py").samefile(repository / name / "__init__.py")


def test_version_is_the_installed_one() -> None:
    assert autopose.__version__ == importlib.metadata.version("autopose")


def _modules_after(statement: str) -> set[str]:
    """Top-level names in ``sys.modules`` after a statement in a fresh interpreter."""
    report = f"{statement}\nimport json, sys\nprint(json.dumps(sorted({{m.partition('.')[0] for m in sys.modules}})))"
    result = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout))


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        # Imports that a script or a shell completion pays for: no array library at all.
        ("import autopose", {"torch", "cv2", "numpy", "onnxruntime", "onnx", "av", "pydantic"}),
        ("import autopose.cli", {"torch", "cv2", "onnxruntime", "onnx", "av", "pycocotools", "matplotlib"}),
        # What runs an exported model works where torch was never installed.
        ("import autopose.runtime.estimator", {"torch", "onnx", "pycocotools", "matplotlib", "tensorrt", "ray"}),
        ("from autopose import Estimator, Genotype, Poses", {"torch", "onnx", "pycocotools", "tensorrt", "ray"}),
    ],
)
def test_import_does_not_load(statement: str, unwanted: set[str]) -> None:
    assert _modules_after(statement) & unwanted == set()


def test_every_runtime_module_imports_without_torch(repository: Path) -> None:
    optional = {"trt_session", "device_memory"}  # these import TensorRT or CUDA at their top, and are imported lazily
    names = sorted({p.stem for p in (repository / "runtime").glob("*.py")} - {"__init__"} - optional)
    statement = "\n".join(["import sys; sys.modules['torch'] = None", *(f"import autopose.runtime.{n}" for n in names)])
    _modules_after(statement)


def test_wheel_holds_exactly_the_files_on_disk(repository: Path, tmp_path: Path) -> None:
    # Built as from a checkout without symbolic links, which must still give the whole package and nothing beside it.
    tree = tmp_path / "tree"
    for name in ROOTS:
        shutil.copytree(repository / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for link in (tree / "autopose").iterdir():
        if link.is_symlink():
            link.unlink()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repository / name, tree / name)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(tree)]
    result = subprocess.run(build, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size <= 40e6
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    expected = {"/".join([*package.split("."), path.name]) for package, path in _source_files(repository)}
    assert names == expected
