"""Persons from an annotation file of any known format."""

from pathlib import Path

from autopose.data.coco import PSEUDO_WEIGHT, load_coco
from autopose.data.lsp import is_lsp, load_lsp
from autopose.data.mpii import is_mpii, load_mpii
from autopose.errors import DataError
from autopose.poses import Person
from autopose.skeleton import LSP14, MPII16, Skeleton


def load_persons(
    annotations: Path,
    *,
    skeleton: Skeleton,
    images: Path | None = None,
    pseudo_weight: float = PSEUDO_WEIGHT,
    sample_weight: float = 1.0,
) -> list[Person]:
    """Read persons with ground-truth boxes, see :func:`load_coco`, :func:`load_mpii` and :func:`load_lsp`.

    Args:
        annotations: COCO JSON, a file of MPII, or the ``joints.mat`` of LSP or LSPET.
        skeleton: the joints that are wanted.
        images: folder of the pictures.
        pseudo_weight: COCO: weight of the joints that an annotation lists under ``pseudo``.
        sample_weight: becomes ``Person.weight_sample``.

    Raises:
        DataError: the file cannot be used, or has another skeleton.
    """
    if is_lsp(annotations):
        if skeleton is not LSP14:
            raise DataError(f"{annotations}: is of LSP, whose skeleton is lsp14; {skeleton.name} was asked for.")
        return load_lsp(annotations, images=images, sample_weight=sample_weight)
    if not is_mpii(annotations):
        return load_coco(
            annotations,
            images=images,
            skeleton=skeleton,
            pseudo_weight=pseudo_weight,
            sample_weight=sample_weight,
        )
    if skeleton is not MPII16:
        raise DataError(f"{annotations}: is of MPII, whose skeleton is mpii16; {skeleton.name} was asked for.")
    return load_mpii(annotations, images=images, sample_weight=sample_weight)
