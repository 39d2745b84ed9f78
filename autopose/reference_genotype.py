"""Genotypes of kind ``reference``: the hand-made networks that the papers compare with, under the same verbs.

Nothing here needs torch.
"""

from typing import Literal, Self

from pydantic import model_validator

from autopose.genotype import Genotype, Positive


class ReferenceGenotype(Genotype):
    """A hand-made network.

    Attributes:
        network: ``hrnet`` (Sun et al. 2019) or ``simplebaseline`` (Xiao et al. 2018).
        width: HRNet's finest branch (32, 48), or ResNet's stem (64); smaller ones serve tests.
        depth: of SimpleBaseline's ResNet; 0 for HRNet.
    """

    kind: Literal["reference"] = "reference"
    network: Literal["hrnet", "simplebaseline"]
    width: Positive
    depth: Literal[0, 50, 101, 152] = 0

    @model_validator(mode="after")
    def _depth_fits(self) -> Self:
        if (self.network == "simplebaseline") != (self.depth > 0):
            expected = "50, 101 or 152" if self.network == "simplebaseline" else "0"
            raise ValueError(f"depth is {self.depth}; {self.network} has {expected}")
        return self
