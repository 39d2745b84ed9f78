"""The registry of search spaces: each entry imports its module only when it is used."""

from collections.abc import Mapping
from typing import Any

from autopose.search.space import SPACES, SearchSpace


def _autopose(settings: Mapping[str, Any]) -> SearchSpace:
    from autopose.search.autopose_space import AutoPoseSpace, AutoPoseSpaceConfig

    config = AutoPoseSpaceConfig.model_validate(settings)
    if config.weights is None:
        return AutoPoseSpace(config)
    from autopose.search.trained_space import TrainedSpace

    return TrainedSpace(config)


def _fabric(settings: Mapping[str, Any]) -> SearchSpace:
    from autopose.search.fabric_space import FabricSpace, FabricSpaceConfig  # type: ignore[import-not-found,unused-ignore]

    space: SearchSpace = FabricSpace(FabricSpaceConfig.model_validate(settings))
    return space


SPACES["autopose"] = _autopose
SPACES["fabric"] = _fabric
