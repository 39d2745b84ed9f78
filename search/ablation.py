"""The ablations of the paper's Tables 4 and 5: each changes one field of the configuration."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from autopose.errors import UsageError
from autopose.search.config import SearchConfig

#: Name -> (section, field, value).
ABLATIONS: Mapping[str, tuple[str, str, Any]] = {
    "single-branch": ("autopose", "branches", "single"),  # Table 4, row 1: at most one scale per stage
    "no-aggregation": ("autopose", "fusion", "concat"),  # Table 4, row 2: plain concatenation
    "all-branches": ("autopose", "branches", "all"),  # Table 4, row 3: only cells are searched
    "search-128x96": ("codec", "input_size_wh", (96, 128)),  # Table 5: small images while searching
}


def ablated(config: SearchConfig, name: str) -> SearchConfig:
    """Return the configuration with one thing taken away.

    Raises:
        UsageError: no such ablation, or one of another space.
    """
    if name not in ABLATIONS:
        raise UsageError(f"No ablation {name!r}; expected one of {', '.join(ABLATIONS)}.")
    section, field, value = ABLATIONS[name]
    if section == "autopose" and config.space != "autopose":
        raise UsageError(f"--ablation {name} is of the autopose space; this search is in {config.space!r}.")
    if field == "fusion" and config.branches_only:
        raise UsageError(
            f"--ablation {name}: autopose.weights keeps the trained network's cells; leave one of both out."
        )
    part = getattr(config, section)
    try:
        changed = type(part).model_validate(part.model_dump() | {field: value})
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UsageError(f"--ablation {name} does not go with this configuration: {reason}.") from None
    return config.model_copy(update={section: changed})
