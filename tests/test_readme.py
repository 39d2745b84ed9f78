"""What the documentation promises: its Python runs, its commands parse, its links lead somewhere."""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer.main

from autopose.cli import app
from autopose.image_files import read_image

ROOT = Path(__file__).resolve().parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "autopose" / "zoo").glob("*.md")),
]
RECIPES = sorted([*(ROOT / "autopose" / "configs").rglob("*.toml"), *(ROOT / "docs").rglob("*.toml")])
FENCE = re.compile(
    r"^(?:<!-- (?P<mark>[^\n]*?) -->\n)?```(?P<language>\w*)[^\n]*\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL
)


def _name(value: Any) -> str | None:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else None


def _blocks(page: Path, language: str) -> list[tuple[str, str]]:
    """Return (the comment on the line before, or nothing; the code) of the page's fenced blocks in a language."""
    found = FENCE.finditer(page.read_text(encoding="utf-8"))
    return [(match["mark"] or "", match["body"]) for match in found if match["language"] == language]


def _commands() -> list[tuple[Path, str]]:
    """Return every ``autopose ...`` command of the shell blocks, one per line or per ``&&``."""
    commands = []
    for page in PAGES:
        for language in ("sh", "bash", "console"):
            for _, body in _blocks(page, language):
                for line in body.replace("\\\n", " ").splitlines():
                    words = shlex.split(line.removeprefix("$ "), comments=True)
                    parts = " ".join(shlex.quote(word) for word in words).replace("'&&'", "&&").split("&&")
                    commands += [(page, part.strip()) for part in parts if part.split()[:1] == ["autopose"]]
    return commands


def _recipe_commands() -> list[tuple[Path, str]]:
    """Return the ``autopose ...`` commands in the comments that recipes begin with."""
    commands = []
    for recipe in RECIPES:
        lines = [line[1:].strip() for line in recipe.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
        text = "\n".join(lines).replace("\\\n", "")
        for found in re.findall(r"(?:^|: |-m |FOLDER )(autopose [a-z]+ [^\n(;]*)", text, re.MULTILINE):
            commands.append((recipe, found.partition(", ")[0].strip().rstrip(".")))
    return commands


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_python_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the README's blocks, and on other pages those after a line ``<!-- run -->``; compile the rest."""
    monkeypatch.chdir(tmp_path)
    assert cv2.imwrite("photo.jpg", np.full((240, 320, 3), 127, np.uint8))
    scope: dict[str, Any] = {"__name__": "documentation"}
    for mark, body in _blocks(page, "python"):
        code = compile(body, str(page), "exec")
        if mark == "run" or (page.name == "README.md" and page.parent == ROOT and not mark.startswith("not run")):
            exec(code, scope)  # noqa: S102 - the project's own page


def test_the_bundled_graphs_need_nothing_of_autopose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's code finds the boxes and joints of an estimator that is given them."""
    from autopose import Estimator
    from autopose.data.synthetic import write_synthetic

    (code,) = (body for mark, body in _blocks(ROOT / "docs" / "export.md", "python") if mark == "without autopose")
    monkeypatch.chdir(tmp_path)
    zoo = ROOT / "autopose" / "zoo"  # as exported, but with the weights beside them
    for file in (zoo / "detector-fast.onnx", *zoo.glob("*.data")):
        shutil.copyfile(file, file.name)
    shutil.copyfile(zoo / "fast-flip.onnx", "fast.onnx")
    drawn = write_synthetic(tmp_path / "drawn", images=3, seed=1, size_wh=(400, 300))
    seen = 0
    with Estimator(model="fast", detector="detector-fast") as estimator:
        for picture in sorted((drawn.parent / "images").iterdir()):
            shutil.copyfile(picture, "photo.jpg")
            expected, _ = estimator.detect(read_image(picture))
            if not len(expected):
                continue
            scope: dict[str, Any] = {}
            exec(compile(code, "export.md", "exec"), scope)  # noqa: S102 - the project's own page
            np.testing.assert_allclose(scope["boxes"], expected, atol=1e-3)
            given = estimator.predict(picture, boxes=expected)
            np.testing.assert_allclose(scope["joints"][..., 2], given.keypoint_scores, atol=1e-3)
            sure = given.keypoint_scores > 0.2
            np.testing.assert_allclose(scope["xy"][sure], given.keypoints[sure], atol=1e-2)
            seen += int(sure.sum())
    assert seen > 20


def test_most_recipes_say_how_they_are_run() -> None:
    named = {recipe for recipe, _ in _recipe_commands()}
    assert [recipe.name for recipe in RECIPES if recipe.is_relative_to(ROOT / "autopose") and recipe not in named] == []


@pytest.mark.parametrize(("page", "command"), [*_commands(), *_recipe_commands()], ids=_name)
def test_command_parses(page: Path, command: str) -> None:
    """Look up the verb and every option of a documented command, and leave the values alone."""
    words = shlex.split(command)[1:]
    node: Any = typer.main.get_command(app)
    while words and words[0] in getattr(node, "commands", {}):
        node = node.commands[words.pop(0)]
    assert not getattr(node, "commands", {}) or words[:1] == ["--help"], f"{command!r} names no verb"
    known = {"--help"} | {option for p in node.params for option in (*p.opts, *p.secondary_opts)}
    given = {word.partition("=")[0] for word in words if re.match(r"--?[a-zA-Z]", word)}
    assert given <= known


def test_readme_gives_the_test_command_that_ci_runs() -> None:
    documented = {line.partition("&&")[2].strip() for _, body in _blocks(PAGES[0], "sh") for line in body.splitlines()}
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] in documented


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_resolve(page: Path) -> None:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    targets = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", text))
    local = {target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:", target)} - {""}
    assert [target for target in sorted(local) if not (page.parent / target).exists()] == []


def test_index_lists_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = [str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md") if p.name != "README.md"]
    assert [page for page in sorted(pages) if f"]({page})" not in index] == []
