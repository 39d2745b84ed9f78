"""Persons from an annotation file of any known format."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from autopose.data.coco import PSEUDO_WEIGHT, load_coco
from autopose.data.coco_file import CocoFile
from autopose.data.deeplabcut import is_deeplabcut, read_deeplabcut
from autopose.data.drafts import is_results, read_drafts
from autopose.data.labelme import is_labelme, read_labelme
from autopose.data.lsp import is_lsp, load_lsp
from autopose.data.mpii import is_mpii, load_mpii
from autopose.data.ochuman import is_ochuman, load_ochuman
from autopose.data.skeletons import conversion_to
from autopose.data.yolo import is_yolo, read_yolo
from autopose.errors import DataError
from autopose.poses import Person
from autopose.skeleton import LSP14, MPII16, OCHUMAN19, Skeleton


@dataclass(frozen=True)
class OwnFormat:
    """The format of one data set's own files.

    Attributes:
        name: of the data set.
        skeleton: its joints.
        matches: tells whether a file is in it.
        load: reads a file's persons; takes ``images`` and ``sample_weight`` as :func:`load_persons` does.
    """

    name: str
    skeleton: Skeleton
    matches: Callable[[Path], bool]
    load: Callable[..., list[Person]]


#: All but COCO's, which is that of many sets.
OWN_FORMATS = (
    OwnFormat("LSP", LSP14, is_lsp, load_lsp),
    OwnFormat("MPII", MPII16, is_mpii, load_mpii),
    OwnFormat("OCHuman", OCHUMAN19, is_ochuman, load_ochuman),
)


@dataclass(frozen=True)
class LabelTool:
    """A label tool's or trainer's own format, which is converted before anything else.

    Attributes:
        name: of the tool.
        matches: tells whether a file or a folder is in its format.
        read: reads it as COCO's records; takes ``images`` as :func:`load_persons` does.
    """

    name: str
    matches: Callable[[Path], bool]
    read: Callable[..., CocoFile]


LABEL_TOOLS = (
    LabelTool("autopose infer", is_results, read_drafts),
    LabelTool("labelme", is_labelme, read_labelme),
    LabelTool("DeepLabCut", is_deeplabcut, read_deeplabcut),
    LabelTool("YOLO-pose", is_yolo, read_yolo),  # last: beside the others' files copies in this format may lie
)


def label_tool(annotations: Path) -> LabelTool | None:
    """Return the label tool whose format a file or a folder has; None if it is of none."""
    return next((tool for tool in LABEL_TOOLS if tool.matches(annotations)), None)


def own_format(annotations: Path) -> OwnFormat | None:
    """Return the format of a data set's own file; None for COCO's, for which every other file is taken."""
    return next((known for known in OWN_FORMATS if known.matches(annotations)), None)


def is_coco(annotations: Path) -> bool:
    """Tell whether a file is taken for COCO's format: it is in none of the others."""
    return label_tool(annotations) is None and own_format(annotations) is None


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
    if (tool := label_tool(annotations)) is not None:
        raise DataError(
            f"{annotations}: is of {tool.name}; expected COCO's format, or that of a data set.\n"
            f"Convert it: {conversion_to(skeleton, annotations)}"
        )
    own = own_format(annotations)
    if own is None:
        return load_coco(
            annotations,
            images=images,
            skeleton=skeleton,
            pseudo_weight=pseudo_weight,
            sample_weight=sample_weight,
        )
    if skeleton is not own.skeleton:
        raise DataError(
            f"{annotations}: is of {own.name}, whose skeleton is {own.skeleton.name}; {skeleton.name} was asked for.\n"
            f"Convert it: {conversion_to(skeleton, annotations)}"
        )
    return own.load(annotations, images=images, sample_weight=sample_weight)
