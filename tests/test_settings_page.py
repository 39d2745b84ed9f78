"""docs/settings.md says what the models of the recipes say.

The page is written from them: ``python tests/test_settings_page.py`` writes it anew.
"""

import inspect
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from autopose.data.detection_dataset import DetectionAugment
from autopose.search.config import SearchConfig
from autopose.search.fabric_space import FabricSpaceConfig
from autopose.training.config import Source, TrainConfig

PAGE = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
REWRITE = "python tests/test_settings_page.py"

#: Sections that a model holds as a plain dictionary, because their module is imported only where it is needed.
UNTYPED: dict[tuple[type[BaseModel], str], type[BaseModel]] = {(SearchConfig, "fabric"): FabricSpaceConfig}

HEAD = f"""\
# Settings

Every setting of a [training](training.md) and of a [search](search.md) recipe, with its default. The page is generated
from the models that read the recipes (`{REWRITE}`), and a test holds the two equal: change the
docstrings, not the page.

A setting is given on the command line, where it overrides the recipe, or in a recipe of your own:

```sh
autopose train small --config smoke --set train.lr=5e-4 --set "codec.input_size_wh=[96,128]" -o runs/mine
autopose train small --config mine.toml -o runs/mine
```

```toml
[train]                          # mine.toml
lr = 5e-4

[codec]
input_size_wh = [96, 128]
```

A value is written as in TOML; a bare word is a text. TOML has no null: what is "left out" by default, or said to be
None below, is not written at all. An unknown setting or an impossible value is an error. The defaults are those of a
recipe that does not name the setting; packaged recipes name many. `config.toml` in the run folder has what a run
went by, defaults included.
"""

RECIPES: tuple[tuple[str, str, type[BaseModel]], ...] = (
    ("Training recipe", "Of `autopose train --config`.", TrainConfig),
    ("Search recipe", "Of `autopose search --config`.", SearchConfig),
)


@dataclass(frozen=True)
class Section:
    """A table of the page.

    Attributes:
        path: what its settings begin with, as ``train``; nothing at the top level.
        model: has a row for each field.
        many: there may be several, as in ``[[data.sources]]``.
    """

    path: str
    model: type[BaseModel]
    many: bool = False

    @property
    def title(self) -> str:
        return f"[[{self.path}]]" if self.many else f"[{self.path}]"

    @property
    def anchor(self) -> str:
        return "#" + self.path.replace(".", "")


def markdown(text: str) -> str:
    """Return a docstring's text for a cell of a table: in one line, its double backticks and roles as Markdown's."""
    line = " ".join(text.split())
    line = re.sub(r":\w+:`~(?:\w+\.)*(\w+)`", r"`\1`", line)
    line = re.sub(r":\w+:`([^`]+)`", r"`\1`", line)
    return line.replace("``", "`").replace("|", "\\|")


def summary(model: type[BaseModel]) -> str:
    """Return the first paragraph of a model's docstring."""
    return markdown(inspect.cleandoc(model.__doc__ or "").partition("\n\n")[0])


def documented(model: type[BaseModel]) -> dict[str, str]:
    """Return the entries of ``Attributes:`` in a model's docstring."""
    _, _, after = inspect.cleandoc(model.__doc__ or "").partition("\nAttributes:\n")
    entries = re.split(r"^ {4}(\w+): *", re.split(r"^\S", after, maxsplit=1, flags=re.MULTILINE)[0], flags=re.MULTILINE)
    return {name: markdown(text) for name, text in zip(entries[1::2], entries[2::2], strict=True)}


def meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return what each field of a model means.

    Raises:
        ValueError: its docstring leaves a field out, says nothing of it, or describes one that is not there.
    """
    fields = model.model_fields
    entries: dict[str, str] = {}
    for base in reversed(model.__mro__):  # what a model has from its base is described there
        if issubclass(base, BaseModel) and base is not BaseModel:
            entries |= documented(base)
    wrong = [name for name in fields if not entries.get(name)] + [name for name in entries if name not in fields]
    if wrong:
        raise ValueError(
            f"{model.__module__}.{model.__qualname__}: 'Attributes:' in its docstring does not match the fields in: "
            f"{', '.join(wrong)}. Give each field an entry, and only fields."
        )
    return entries


def model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the model inside of an annotation such as ``Model | None`` or ``tuple[Model, ...]``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := model_in(part)) is not None), None)


def section_of(path: str, model: type[BaseModel], name: str) -> Section | None:
    """Return the section that a field is, or None for a single setting."""
    annotation = model.model_fields[name].annotation
    inner = UNTYPED.get((model, name)) or model_in(annotation)
    many = get_origin(annotation) is tuple
    return None if inner is None else Section(f"{path}{name}", inner, many)


def tables(root: type[BaseModel], known: dict[type[BaseModel], Section]) -> Iterator[Section]:
    """Yield the sections of a recipe in their order, those inside of a section after it.

    Args:
        root: the recipe's model.
        known: the sections that the page has already, by model; added to.
    """
    waiting = [Section("", root)]
    while waiting:
        section = waiting.pop(0)
        if section.model in known:
            continue
        known[section.model] = section
        yield section
        path = f"{section.path}." if section.path else ""
        inner = (section_of(path, section.model, name) for name in section.model.model_fields)
        waiting[:0] = [found for found in inner if found is not None]


def bounds(schema: dict[str, Any]) -> str:
    """Return the range of a number in words, after a comma."""
    if {"minimum", "maximum"} <= schema.keys():
        return f", {schema['minimum']:g} to {schema['maximum']:g}"
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    return "".join(f", {word} {schema[key]:g}" for key, word in words.items() if key in schema)


def kind(schema: dict[str, Any]) -> str:
    """Return a JSON schema in words.

    Raises:
        ValueError: it is of a kind that no setting had so far.
    """
    if "anyOf" in schema:
        return " or ".join(kind(part) for part in schema["anyOf"] if part.get("type") != "null")
    if "enum" in schema:
        return ", ".join(f"`{choice}`" for choice in schema["enum"])
    match schema.get("type"):
        case "integer" | "number":
            return {"integer": "whole number", "number": "number"}[schema["type"]] + bounds(schema)
        case "string":
            return "text"
        case "boolean":
            return "`true`, `false`"
        case "array" if "prefixItems" in schema:
            parts = {kind(part) for part in schema["prefixItems"]}
            if len(parts) == 1:
                return f"{len(schema['prefixItems'])} of: {parts.pop()}"
        case "array" if "$ref" not in schema["items"]:
            return f"list of: {kind(schema['items'])}"
    raise ValueError(f"No words for a setting of this kind: {schema}")


def toml(value: Any) -> str:
    """Return a value as a recipe has it."""
    if isinstance(value, BaseModel):
        content = value.model_dump(exclude_unset=True)
        return "{" + ", ".join(f"{key} = {toml(item)}" for key, item in content.items()) + "}"
    if isinstance(value, tuple):
        return f"[{', '.join(toml(item) for item in value)}]"
    return json.dumps(value)


def default(field: FieldInfo) -> str:
    """Return the cell of a setting's default."""
    if field.is_required():
        return "must be given"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "left out"
    return f"`{value}`" if isinstance(value, str) and value else f"`{toml(value)}`"


def cells_of_section(section: Section, field: FieldInfo, known: dict[type[BaseModel], Section]) -> tuple[str, str]:
    """Return kind and default of a field that is a section, linked to its table."""
    table = known.get(section.model, section)
    link = f"[{'tables' if section.many else 'section'} `{table.title}`]({table.anchor})"
    value = None if field.is_required() else field.get_default(call_default_factory=True)
    if section.many:
        return link, default(field)
    if value is None:
        return link, "left out"
    if not isinstance(value, section.model):
        return link, "as there"
    plain = section.model()
    other = [f"{name} = {toml(item)}" for name, item in value if item != getattr(plain, name)]
    return link, f"`{', '.join(other)}` while no key of it is set, else as there" if other else "as there"


def rows(section: Section, known: dict[type[BaseModel], Section]) -> Iterator[tuple[str, str, str, str]]:
    """Yield setting, kind, default and meaning of each field of a section's model."""
    schema = section.model.model_json_schema()["properties"]
    meaning = meanings(section.model)
    path = f"{section.path}." if section.path else ""
    for name, field in section.model.model_fields.items():
        inner = section_of(path, section.model, name)
        cells = cells_of_section(inner, field, known) if inner else (kind(schema[name]), default(field))
        yield f"`{name if section.many else path + name}`", *cells, meaning[name]


def page() -> str:
    """Return the whole page.

    Raises:
        ValueError: a field has no meaning, see :func:`meanings`.
    """
    known: dict[type[BaseModel], Section] = {}
    parts = [HEAD]
    for title, what, root in RECIPES:
        for section in list(tables(root, known)):
            head = f"### `{section.title}`\n\n{summary(section.model)}" if section.path else f"## {title}\n\n{what}"
            if section.many:
                example = f'''"{section.path}=[{{annotations='mine.json', images='photos'}}]"'''
                head += f" All at once: `--set {example}`, or one `{section.title}` after the other in TOML."
            parts.append(
                f"{head}\n\n| setting | type or choices | default | meaning |\n|---|---|---|---|\n"
                + "".join(f"| {' | '.join(row)} |\n" for row in rows(section, known))
            )
    return "\n".join(parts)


def models() -> list[type[BaseModel]]:
    """Return the models of all tables."""
    known: dict[type[BaseModel], Section] = {}
    return [section.model for _, _, root in RECIPES for section in tables(root, known)]


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), f"docs/settings.md is stale; rewrite it: {REWRITE}"


@pytest.mark.parametrize("model", models(), ids=lambda model: str(model.__name__))
def test_every_field_has_a_row_and_a_meaning(model: type[BaseModel]) -> None:
    assert summary(model)
    found = list(rows(Section("section", model), {}))
    assert [row[0] for row in found] == [f"`section.{name}`" for name in model.model_fields]
    assert all(cell for row in found for cell in row)


def test_every_section_has_a_table() -> None:
    found = models()
    assert {TrainConfig, Source, DetectionAugment, SearchConfig, FabricSpaceConfig} <= set(found)
    assert len(found) == len(set(found))
    text = page()
    anchors = ["#" + re.sub(r"[^\w -]", "", title.lower()) for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)]
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r"\]\((#[^)]*)\)", text)) <= set(anchors)


def test_a_field_without_an_entry_and_an_entry_without_a_field_are_refused() -> None:
    class Half(BaseModel):
        """A section.

        Attributes:
            said: something
                in two lines.
            gone: something.
        """

        said: int = 1
        silent: int = 2

    assert documented(Half)["said"] == "something in two lines."
    with pytest.raises(ValueError, match=r"Half.*silent, gone\."):
        meanings(Half)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
