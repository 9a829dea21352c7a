"""The architecture: the direction of imports, imports without side effects, and light modules."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import albumentations
import pytest

SRC = Path(__file__).parents[1] / "src"
PACKAGE = SRC / "foldsmith"
STAGES = {path.stem for path in SRC.glob("*.py")}
# a package may import itself and those before it
ORDER = (
    "errors", "natural_order", "seeding", "tasks", "process", "augment", "recipes", "competition", "models",
    "run", "data", "evaluation", "inference", "report", "training", "comparison", "deployment", "grid",
    "campaign",
)  # fmt: skip
# modules that need torch or another library that takes seconds to import
HEAVY_PACKAGES = {
    "models",
    "evaluation",
    "inference",
    "report",
    "training",
    "comparison",
    "deployment",
    "grid",
    "campaign",
}
HEAVY_MODULES = {"foldsmith.augment.device", "foldsmith.data.loader"}
HEAVY_MODULES |= {f"foldsmith.tasks.{kind}" for kind in ("losses", "set_losses", "value_losses")}


def module_name(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(SRC.rglob("*.py"))}


def imports_of(path: Path) -> set[str]:
    """Return every module that a file imports, at its top or within a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports by dots; write the full name"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def package_of(module: str) -> str:
    """Return the second component of a module's name: `data` of foldsmith.data.cache."""
    return module.split(".")[1]


def test_the_packages_are_the_known_ones() -> None:
    rooms = {path.stem for path in PACKAGE.iterdir() if not path.name.startswith("_")}
    assert rooms == set(ORDER)
    assert {"prepare", "split", "train", "validate", "infer", "submit"} <= STAGES


def test_imports_follow_the_order_of_packages() -> None:
    inside = {name: path for name, path in MODULES.items() if name.startswith("foldsmith.")}
    offenders = [
        f"{module} imports {name}"
        for module, path in inside.items()
        for name in sorted(imports_of(path))
        if name.split(".")[0] in STAGES
        or (
            name.startswith("foldsmith.")
            and package_of(name) in ORDER
            and ORDER.index(package_of(name)) > ORDER.index(package_of(module))
        )
    ]
    assert offenders == []


def test_stages_never_import_each_other() -> None:
    imported = {stage: {name.split(".")[0] for name in imports_of(MODULES[stage])} for stage in STAGES}
    assert {stage: sorted(names & STAGES) for stage, names in imported.items() if names & STAGES} == {}


def test_a_stage_is_a_script_with_a_main_that_tests_can_call() -> None:
    for stage in sorted(STAGES):
        tree = ast.parse(MODULES[stage].read_text(encoding="utf-8"))
        (main,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main"]
        assert [argument.arg for argument in main.args.args] == ["argv"], stage
        assert len(main.args.defaults) == 1, stage
        assert f"src/{stage}.py" in ast.get_docstring(tree), f"{stage}: the docstring ends with the command"


def test_every_module_has_a_docstring_and_a_unique_name() -> None:
    for module, path in MODULES.items():
        name = module.split(".")[-1]
        assert name not in {"utils", "util", "common", "helpers", "misc"}, module
        assert name not in sys.stdlib_module_names or "." in module, module
        text = path.read_text(encoding="utf-8")
        assert not text or ast.get_docstring(ast.parse(text)), module


def run_python(program: str, *words: str) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "NO_ALBUMENTATIONS_UPDATE"}
    environment["PYTHONPATH"] = str(SRC)
    done = subprocess.run(
        [sys.executable, "-c", program, *words], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_importing_defines_and_does_nothing_else(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    program = (
        "import importlib, os, socket, sys\n"
        "import cv2, numpy, torch\n"
        "def refuse(*words, **named): raise SystemExit(f'an import asks the network for {words}')\n"
        "socket.getaddrinfo = socket.create_connection = refuse\n"
        "os.chdir(sys.argv[2])\n"
        "def state():\n"
        "    flags = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()\n"
        "    seeds = torch.initial_seed(), numpy.random.get_state()[1].tolist()\n"
        "    return flags, seeds, cv2.getNumThreads()\n"
        "torch.manual_seed(0)\n"
        "before = state()\n"
        "for name in sys.argv[1].split():\n"
        "    importlib.import_module(name)\n"
        "assert state() == before\n"
        # otherwise albumentations looks for a newer version on the internet
        "from foldsmith.augment.rows import build_augmentation\n"
        "build_augmentation(sys.argv[4], 8)\n"
    )
    pipeline = str(tmp_path_factory.mktemp("pipeline") / "flip.json")
    albumentations.save(albumentations.Compose([albumentations.HorizontalFlip()]), pipeline)
    words = " ".join(MODULES), str(tmp_path), "--nobody-knows-this", pipeline
    assert run_python(program, *words) == ""
    assert not any(tmp_path.iterdir())


def is_light(module: str) -> bool:
    return "." not in module or (package_of(module) not in HEAVY_PACKAGES and module not in HEAVY_MODULES)


LIGHT = [module for module in MODULES if module == "foldsmith" or is_light(module)]


def test_modules_that_every_stage_needs_import_no_heavy_library() -> None:
    program = (
        "import importlib, json, sys\n"
        "heavy = {'torch', 'timm', 'sklearn', 'matplotlib', 'albumentations', 'scipy'}\n"
        "guilty = {}\n"
        "for name in sys.argv[1].split():\n"
        "    before = heavy & set(sys.modules)\n"
        "    importlib.import_module(name)\n"
        "    if heavy & set(sys.modules) - before:\n"
        "        guilty[name] = sorted(heavy & set(sys.modules) - before)\n"
        "print(json.dumps(guilty))\n"
    )
    assert json.loads(run_python(program, " ".join(LIGHT))) == {}


def test_pages_and_scores_need_no_network_library() -> None:
    packages = ("foldsmith.report.", "foldsmith.evaluation.")
    modules = " ".join(module for module in MODULES if module.startswith(packages))
    program = (
        "import importlib, sys\n"
        "for name in sys.argv[1].split():\n"
        "    importlib.import_module(name)\n"
        "assert not {'torch', 'timm'} & set(sys.modules)\n"
    )
    assert modules and run_python(program, modules) == ""
