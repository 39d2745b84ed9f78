"""Skeletons of one's own as JSON: what files and models store, and what annotation files say of their keypoints."""

import re
import sys
import unicodedata
from collections.abc import Mapping
from typing import Any

from autopose.errors import DataError
from autopose.skeleton import Skeleton, skeleton_by_joints, skeleton_by_name, usual_sigmas

#: Joints of a skeleton at most; COCO-WholeBody has 133.
MOST_JOINTS = 1000


def plain_name(name: object) -> str:
    """Return how a joint's name is written here: ``LShoulder`` and ``l-shoulder`` as ``l_shoulder``."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", unicodedata.normalize("NFKC", str(name)))
    return re.sub(r"[^a-z0-9\u0080-\U0010ffff]+", "_", words.lower()).strip("_")  # letters of all languages stay


def own_constants(skeleton: Skeleton) -> dict[str, Any]:
    """Return what its name does not say of a skeleton, besides joints and limbs; nothing of one that autopose knows."""
    if skeleton.is_known:
        return {}
    return {"sigmas": list(skeleton.sigmas), "pairs": [list(pair) for pair in skeleton.pairs]}


def skeleton_object(skeleton: Skeleton) -> dict[str, Any]:
    """Return a skeleton as a JSON object that :func:`skeleton_from` reads."""
    return {
        "name": skeleton.name,
        "joints": list(skeleton.joints),
        "limbs": [list(limb) for limb in skeleton.limbs],
        **own_constants(skeleton),
    }


def skeleton_record(skeleton: Skeleton) -> str | dict[str, Any]:
    """Return what a file stores of a skeleton: the name of one that autopose knows, the whole of another."""
    return skeleton.name if skeleton.is_known else skeleton_object(skeleton)


def stored_skeleton(record: object, where: str) -> Skeleton:
    """Return the skeleton that :func:`skeleton_record` stored.

    Raises:
        DataError: it is none.
    """
    return skeleton_by_name(record) if isinstance(record, str) else skeleton_from(record, where)


def skeleton_from(record: object, where: str, name: str | None = None) -> Skeleton:
    """Return the skeleton that a JSON object describes; one that autopose knows where the joints are that one's.

    ``joints`` (or COCO's ``keypoints``) are their names; ``limbs`` pairs of names (or COCO's ``skeleton``: pairs of
    their numbers, from 1, or from 0 where that is among them); ``sigmas`` their OKS constants, by default
    :func:`autopose.skeleton.usual_sigmas`; ``pairs`` joints that change places in a mirror image, besides those whose
    names differ in left and right, or l and r.

    Args:
        record: the object.
        where: what errors call it.
        name: of the skeleton, where the object has none.

    Raises:
        DataError: something is missing or of the wrong shape.
    """
    if not isinstance(record, Mapping):
        raise DataError(f"{where}: expected an object with 'joints', a list of names.")
    listed = record.get("joints", record.get("keypoints"))
    if not isinstance(listed, list) or not listed or not all(isinstance(each, str) for each in listed):
        raise DataError(f"{where}: has no 'joints'; expected a list of names.")
    if len(listed) > MOST_JOINTS:
        raise DataError(f"{where}: has {len(listed)} joints; at most {MOST_JOINTS} are possible.")
    joints = tuple(map(plain_name, listed))
    twice = next((joint for joint in joints if joints.count(joint) > 1 or not joint), None)
    if twice is not None:
        raise DataError(f"{where}: 'joints': {twice!r} is there twice, or no name; expected {len(joints)} of them.")
    sigmas = record.get("sigmas")
    known = skeleton_by_joints(joints)
    if known is not None and sigmas in (None, list(known.sigmas)) and not record.get("pairs"):
        return known  # whatever limbs it has: CrowdPose's files list COCO's
    key = "limbs" if "limbs" in record else "skeleton"
    lists = [each for each in (record.get(key), record.get("pairs")) if isinstance(each, list)]
    first = 0 if any(isinstance(each, list) and 0 in each for listed in lists for each in listed) else 1
    limbs = _pairs(record.get(key), joints, where, key, first)
    pairs = _pairs(record.get("pairs"), joints, where, "pairs", first)
    if sigmas is None:
        sigmas = usual_sigmas(joints)
    elif not (
        isinstance(sigmas, list)
        and len(sigmas) == len(joints)
        and all(isinstance(value, int | float) and 0 < value <= sys.float_info.max for value in sigmas)
    ):
        raise DataError(f"{where}: 'sigmas' is {str(sigmas)[:60]}; expected {len(joints)} numbers above 0.")
    own = Skeleton(str(record.get("name") or name or "own"), joints, limbs, tuple(map(float, sigmas)), pairs=pairs)
    _check_mirror(own, where)
    return own


def _pairs(listed: object, joints: tuple[str, ...], where: str, key: str, first: int) -> tuple[tuple[str, str], ...]:
    """Return pairs of joints, given by name or by number: from 1 as in COCO, from 0 where a 0 is among all of them."""
    if listed is None:
        return ()
    numbered = dict(enumerate(joints, start=first))
    pairs = []
    for each in listed if isinstance(listed, list) else [listed]:
        pair = each if isinstance(each, list) else []
        names = [numbered.get(end, "") if isinstance(end, int) else plain_name(end) for end in pair]
        if len(names) != 2 or not set(names) <= set(joints) or names[0] == names[1]:
            raise DataError(
                f"{where}: {key!r} has {str(each)[:60]}; expected two different joints, by name or number "
                f"({first} to {first + len(joints) - 1}). Mend it, or leave {key!r} out."
            )
        pairs.append((names[0], names[1]))
    return tuple(pairs)


def _check_mirror(skeleton: Skeleton, where: str) -> None:
    """Refuse joints of which it is not known where they are in a mirror image."""
    ends = [end for pair in skeleton.pairs for end in pair]
    if len(set(ends)) != len(ends):
        raise DataError(f"{where}: 'pairs': a joint is in several; expected each in one at most.")
    order = skeleton.flip_order
    for place, joint in enumerate(skeleton.joints):
        alone = order[place] == place and {"left", "right"} & set(joint.split("_"))
        if alone or order[order[place]] != place:
            raise DataError(
                f"{where}: {joint!r} has no counterpart of the other side, so its place in a mirror image is not "
                "known.\nName the counterpart alike (left_wrist, right_wrist), or list both in 'pairs'."
            )
