"""Configurations: TOML, overrides, and errors that name the nearest key."""

import tomllib
from pathlib import Path

import pytest

from autopose.config import Config, load_config, to_toml
from autopose.errors import ConfigError


class Inner(Config):
    """A section."""

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    name: str | None = None


class Needed(Config):
    """A section that cannot be left empty."""

    weights: str


class Root(Config):
    """A configuration."""

    seed: int = 0
    quick: bool = False
    train: Inner = Inner()
    parts: tuple[Inner, ...] = ()
    needed: Needed | None = None


def test_files_and_overrides(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("seed = 3\n[train]\nlr = 0.1\n")
    config = load_config(Root, path, ["train.lr=2e-4", "train.name= adamw ", "train.betas=[0.5, 0.9]"])
    assert (config.seed, config.train.lr, config.train.name, config.train.betas) == (3, 2e-4, "adamw", (0.5, 0.9))


def test_roundtrip_through_toml(tmp_path: Path) -> None:
    config = Root(seed=5, quick=True, train=Inner(name='a "b" \\ c\x7f'), parts=(Inner(lr=0.5),))
    path = tmp_path / "b.toml"
    path.write_text(to_toml(config))
    tomllib.loads(path.read_text())  # a second reader accepts it
    assert load_config(Root, path) == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.lrr=1", r"unknown key 'train.lrr'; did you mean 'lr'\?"),
        ("trian.lr=1", r"unknown key 'trian'; did you mean 'train'\?"),
        ("train.zzz=1", r"unknown key 'train.zzz'; known: lr, betas, name"),
        ("train.lr=fast", r"'train.lr': .*found 'fast'"),
        ("train", r"expected section.key=value"),
        ("=1", r"expected section.key=value"),
        ("train.lr=inf", r"'train.lr': .*finite"),
        ("parts=[{lrr=1}]", r"unknown key 'parts.0.lrr'; did you mean 'lr'\?"),
        ("needed={weight=1}", r"unknown key 'needed.weight'; did you mean 'weights'\?"),
        ("seed.x=1", r"'seed'"),
        ("parts=mine", r"'parts': expected a list in brackets, \[a, b\] \(found 'mine'\)"),
        ("parts=['mine']", r"'parts.0': expected a table \{key = value\} with .* keys lr, betas, name \(found"),
        ("train=3", r"'train': expected a table .* lr, betas, name"),
        ("train.betas=0.9,0.99", r"'train.betas': expected a list in brackets"),
        (r'parts=[{name="C:\data"}]', r"--set parts=.*: not valid TOML: Unescaped .*single ones"),
    ],
)
def test_refuses_wrong_overrides(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(Root, None, [override])


def test_refuses_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="neither a file nor a packaged recipe"):
        load_config(Root, tmp_path / "none.toml")
    for text in ("a = = 1", "a = " + 10_000 * "["):
        (tmp_path / "x.toml").write_text(text)
        with pytest.raises(ConfigError, match="not valid TOML"):
            load_config(Root, tmp_path / "x.toml")
