"""Builders of the kinds of genotype beside ``autopose``; imported by ``autopose.models.network`` when first needed."""

from torch import nn

from autopose.fabric_genotype import FabricGenotype
from autopose.genotype import Genotype
from autopose.models.fabric import FabricNetwork
from autopose.models.hrnet import HRNet
from autopose.models.network import BUILDERS
from autopose.models.resnet import SimpleBaseline
from autopose.reference_genotype import ReferenceGenotype


def _fabric(genotype: Genotype, joints: int) -> nn.Module:
    assert isinstance(genotype, FabricGenotype)
    return FabricNetwork(genotype, joints)


def _reference(genotype: Genotype, joints: int) -> nn.Module:
    assert isinstance(genotype, ReferenceGenotype)
    if genotype.network == "hrnet":
        return HRNet(joints, genotype.width)
    return SimpleBaseline(joints, genotype.depth, genotype.width)


BUILDERS["fabric"] = _fabric
BUILDERS["reference"] = _reference
