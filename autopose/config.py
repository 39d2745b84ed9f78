"""Validated configurations: frozen pydantic models, read from TOML, overridden by ``--set a.b=c``."""

import difflib
import json
import textwrap
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

from autopose.errors import ConfigError


class Config(BaseModel):
    """Base of every configuration section: frozen, numbers are finite, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


C = TypeVar("C", bound=Config)
_SHOWN = 5  # differences of two configurations that a message names


def packaged_configs(group: str = "") -> dict[str, Path]:
    """Return the packaged TOML recipes of a group (``train``, ``search``) by name."""
    folder = Path(str(resources.files("autopose.configs"))) / group
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_config(
    model: type[C], source: Path | str | None = None, overrides: Sequence[str] = (), *, group: str = ""
) -> C:
    """Read a configuration.

    Args:
        model: the root class of the configuration.
        source: a packaged recipe's name (``mpii`` or ``mpii.toml``) or a TOML file; None for the defaults.
        overrides: ``section.key=value`` texts, the value as TOML (a bare word is a string).
        group: which packaged recipes are meant, see :func:`packaged_configs`.

    Raises:
        ConfigError: unknown file or key (naming the nearest known key), or an impossible value.
    """
    content: dict[str, Any] = {}
    where = "configuration"
    if source is not None:
        packaged = packaged_configs(group)
        where = str(source)
        path = packaged.get(where, Path(source))
        if not path.is_file():  # a user's file of that name comes first
            path = packaged.get(where.removesuffix(".toml"), path)
        if not path.is_file():
            known = ", ".join(packaged)
            raise ConfigError(f"No configuration {where!r}: neither a file nor a packaged recipe ({known}).")
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError(f"{where}: not valid TOML: {error}.") from None
    for override in overrides:
        _apply(content, override)
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{where}: {_explain(model, error)}") from None


def _apply(content: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {override!r}: expected section.key=value, for instance train.lr=1e-3.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        value = text.strip()  # a bare word such as adamw
        if value.startswith(("[", "{", '"', "'")):
            raise ConfigError(
                f"--set {override}: not valid TOML: {error}. Is a text in it without quotes, or in double ones with a "
                "single \\? Use single ones, with double ones around all: --set \"a.b=['C:\\data']\"."
            ) from None
    *sections, last = key.strip().split(".")
    for section in sections:
        content = content.setdefault(section, {})
        if not isinstance(content, dict):
            raise ConfigError(f"--set {override!r}: {section!r} is a value, not a section.")
    content[last] = value


def _section(annotation: Any) -> type[BaseModel] | None:
    """Return the configuration class inside an annotation such as ``Model | None`` or ``tuple[Model, ...]``."""
    if get_origin(annotation) in (Union, UnionType, tuple):
        return next((found for part in get_args(annotation) if (found := _section(part))), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _keys(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    """Return the keys of a section of a configuration."""
    section: type[BaseModel] | None = model
    for part in (part for part in location if isinstance(part, str)):  # numbers are places in lists
        section = _section(section.model_fields[part].annotation) if section and part in section.model_fields else None
    return list(section.model_fields) if section else []


def _explain(model: type[BaseModel], error: ValidationError) -> str:
    errors = error.errors()
    # A misspelt key first: what is said to be missing may be what it was meant for.
    first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
    location = [str(part) for part in first["loc"]]
    name = ".".join(location)
    if first["type"] == "value_error" and not location:  # what two sections say of each other
        return f"{first['ctx']['error']}."
    if first["type"] != "extra_forbidden":
        expected = first["msg"]
        if first["type"] == "tuple_type":  # pydantic speaks of Python's types, who reads this writes TOML
            expected = "expected a list in brackets, [a, b]"
        elif first["type"] in ("model_type", "model_attributes_type"):
            expected = f"expected a table {{key = value}} with some of the keys {', '.join(_keys(model, first['loc']))}"
        return f"'{name}': {expected} (found {str(first.get('input'))[:80]!r})."
    known = _keys(model, first["loc"][:-1])
    near = difflib.get_close_matches(location[-1], known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}."
    return f"unknown key '{name}'; {hint}"


def changes(before: Mapping[str, Any], now: Mapping[str, Any], section: str = "") -> dict[str, str]:
    """Return ``train.lr was 0.001, is 0.01`` and the like for every key in which two dumped configurations differ."""
    found: dict[str, str] = {}
    for key in {**before, **now}:
        old, new = before.get(key), now.get(key)
        name = section + key
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found |= changes(old, new, f"{name}.")
        elif old != new:
            found[name] = f"{name} was {_in_short(old)}, is {_in_short(new)}"
    return found


def in_brackets(found: Sequence[str]) -> str:
    """Return the first of such texts as an insertion into a sentence; nothing of none."""
    more = f"; {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f" ({'; '.join(found[:_SHOWN])}{more})" if found else ""


def _in_short(value: object) -> str:
    return (
        "not set" if value is None else textwrap.shorten(json.dumps(value, ensure_ascii=False), 60, placeholder=" ...")
    )


def to_toml(config: BaseModel) -> str:
    """Return a resolved configuration as TOML text (None is left out: TOML has no null)."""
    lines: list[str] = []

    def value(item: Any) -> str:
        if isinstance(item, bool):
            return str(item).lower()
        if isinstance(item, int | float):
            return repr(item)
        if isinstance(item, list | tuple):
            return "[" + ", ".join(value(part) for part in item) + "]"
        if isinstance(item, dict):
            return "{" + ", ".join(f"{key} = {value(part)}" for key, part in item.items() if part is not None) + "}"
        # TOML's strings are JSON's, but for one character.
        return json.dumps(str(item), ensure_ascii=False).replace("\x7f", "\\u007f")

    def section(content: dict[str, Any], prefix: str) -> None:
        plain = {key: item for key, item in content.items() if not isinstance(item, dict) and item is not None}
        nested = {key: item for key, item in content.items() if isinstance(item, dict)}
        if prefix and plain:
            lines.append(f"\n[{prefix}]")
        lines.extend(f"{key} = {value(item)}" for key, item in plain.items())
        for key, item in nested.items():
            section(item, f"{prefix}.{key}" if prefix else key)

    section(config.model_dump(mode="json"), "")
    return "\n".join(lines).strip() + "\n"
