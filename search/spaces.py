"""The registry of search spaces: each entry imports its module only when it is used."""

from collections.abc import Mapping
from typing import Any

from autopose.search.space import SPACES, SearchSpace


def _autopose(settings: Mapping[str, Any]) -> SearchSpace:
    from autopose.search.autopose_space import AutoPoseSpace, AutoPoseSpaceConfig

    return AutoPoseSpace(AutoPoseSpaceConfig.model_validate(settings))


def _fabric(settings: Mapping[str, Any]) -> SearchSpace:
    from autopose.search.fabric_space import FabricSpace, FabricSpaceConfig  # type: ignore[import-not-found,unused-ignore]

    space: SearchSpace = FabricSpace(FabricSpaceConfig.model_validate(settings))
    return space


SPACES["autopose"] = _autopose
SPACES["fabric"] = _fabric
