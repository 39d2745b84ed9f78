"""What tests of training share."""

import pytest

from autopose.genotype import AutoPoseGenotype


@pytest.fixture(scope="session")
def tiny() -> AutoPoseGenotype:
    """Return a pose network of one convolution per scale, which trains in seconds."""
    return AutoPoseGenotype(
        individual=(("conv1", *["skip"] * 9),) * 4,
        aggregation=(("skip",) * 9,) * 4,
        scales=((1, 1, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0)),
        channels=(8, 8, 8, 8),
        modules_per_stage=1,
        stem_channels=8,
        stem_expansion=1,
        head="sum",
    )
