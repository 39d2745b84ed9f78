"""Persons from an annotation file of any known format."""

from pathlib import Path

from autopose.data.coco import PSEUDO_WEIGHT, load_coco
from autopose.data.lsp import is_lsp, load_lsp
from autopose.data.mpii import is_mpii, load_mpii
from autopose.data.ochuman import is_ochuman, load_ochuman
from autopose.data.skeletons import conversion_to
from autopose.errors import DataError
from autopose.poses import Person
from autopose.skeleton import LSP14, MPII16, OCHUMAN19, Skeleton


def is_coco(annotations: Path) -> bool:
    """Tell whether a file is taken for COCO's format: it is in none of the others."""
    return not (is_lsp(annotations) or is_mpii(annotations) or is_ochuman(annotations))


def load_persons(
    annotations: Path,
    *,
    skeleton: Skeleton,
    images: Path | None = None,
    pseudo_weight: float = PSEUDO_WEIGHT,
    sample_weight: float = 1.0,
) -> list[Person]:
    """Read persons with ground-truth boxes: :func:`load_coco`, ``load_mpii``, ``load_lsp`` or ``load_ochuman``.

    Args:
        annotations: COCO JSON, a file of MPII, the ``joints.mat`` of LSP or LSPET, or OCHuman's own file.
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
    if is_ochuman(annotations):
        if skeleton is not OCHUMAN19:
            raise DataError(
                f"{annotations}: is OCHuman's own file, whose skeleton is ochuman19; {skeleton.name} was asked for.\n"
                f"Convert it: {conversion_to(skeleton, annotations)}"
            )
        return load_ochuman(annotations, images=images, sample_weight=sample_weight)
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
