"""A search small enough to be run several times in a test."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autopose.search.config import SearchConfig


@pytest.fixture(scope="session")
def figures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Annotations of a few drawn figures."""
    from autopose.data.synthetic import write_synthetic

    return write_synthetic(tmp_path_factory.mktemp("figures"), images=40, seed=0, size_wh=(96, 96))


@pytest.fixture(scope="session")
def tiny_search(figures: Path) -> Callable[..., SearchConfig]:
    """Return a configuration; keywords override fields of the ``search`` section, dictionaries other sections."""

    def make(**changes: Any) -> SearchConfig:
        sections = {key: changes.pop(key) for key in list(changes) if isinstance(changes[key], dict)}
        content: dict[str, Any] = {
            "autopose": {"channels": [4, 4, 4, 4], "stem_channels": 4, "stem_expansion": 1, "modules_per_stage": 1},
            "codec": {"input_size_wh": [64, 64]},
            "data": {"sources": [{"annotations": str(figures)}], "tune_share": 0.3, "workers": 0},
            "search": {
                "epochs": 2,
                "iterations": 2,
                "batch": 2,
                "candidates": 2,
                "reward_persons": 4,
                "reward_batch": 4,
                **changes,
            },
            "controller": {"hidden": 8, "start_epoch": 1, "updates": 2},
        }
        for section, values in sections.items():
            content[section] = content.get(section, {}) | values
        return SearchConfig.model_validate(content)

    return make
