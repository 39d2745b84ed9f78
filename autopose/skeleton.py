"""Skeletons as data: joint names, left-right pairs, limbs, OKS sigmas, body parts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from autopose.errors import DataError


@cache
def _joints_named(joints: tuple[str, ...], parts: tuple[str, ...]) -> NDArray[np.bool_]:
    """Return :meth:`Skeleton.named`, which is asked of every person of a data set, and of every crop."""
    names = (name.split("_") for name in joints)
    found = np.array([any(word.startswith(parts) or word.endswith(parts) for word in name) for name in names])
    found.setflags(write=False)
    return found


@dataclass(frozen=True)
class Skeleton:
    """The joints of one annotation convention.

    Attributes:
        name: how manifests and files call it.
        joints: K joint names in the order of the keypoint arrays.
        limbs: pairs of joint names to draw lines between.
        sigmas: K per-joint OKS constants (COCO's ``sigmas``; doubled and squared in the OKS formula).
        parts: for each part count P of PNFS, part name -> joint names (the body-part groups of PNFS).
        pairs: joints that change places in a mirror image, besides those whose names differ in left and right, or l
            and r.
    """

    name: str
    joints: tuple[str, ...]
    limbs: tuple[tuple[str, str], ...]
    sigmas: tuple[float, ...]
    parts: Mapping[int, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    pairs: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.joints)

    @property
    def is_known(self) -> bool:
        """Whether it is one of autopose's own, which its name stands for."""
        return SKELETONS.get(self.name) == self

    def index(self, joint: str) -> int:
        """Return the position of a joint in the keypoint arrays."""
        if joint not in self.joints:
            raise ValueError(f"{self.name} has no joint {joint!r}; it has {', '.join(self.joints)}.")
        return self.joints.index(joint)

    def named(self, *parts: str) -> NDArray[np.bool_]:
        """Return which joints have a word in their name that begins or ends as one of these: ``(K,)``.

        So ``left_hip`` and ``lhip`` are hips; a ``forearm`` is no ear. The array is read-only.
        """
        return _joints_named(self.joints, parts)

    @cached_property
    def flip_order(self) -> NDArray[np.int64]:
        """Return for each joint the index of its counterpart in a mirror image (itself on the midline): ``(K,)``."""
        named = {one: other for pair in self.pairs for one, other in (pair, pair[::-1])}
        mirrored = (named.get(name) or _counterpart(name, self.joints) for name in self.joints)
        return np.array([self.joints.index(name) for name in mirrored], np.int64)

    @cached_property
    def limb_indices(self) -> NDArray[np.int64]:
        """Return ``limbs`` as joint indices ``(L, 2)``."""
        return np.array([[self.index(a), self.index(b)] for a, b in self.limbs], np.int64)


def _counterpart(name: str, names: tuple[str, ...]) -> str:
    """Return which of the names is this one of the other side; the name itself if there is none."""
    words = name.split("_")
    possible = (
        name.replace("left", "right"),
        name.replace("right", "left"),
        "_".join({"l": "r", "r": "l"}.get(word, word) for word in words),  # l_wrist, wrist_l
        {"l": "r", "r": "l"}.get(name[0], name[0]) + name[1:],  # lwrist
    )
    return next((other for other in possible if other != name and other in names), name)


def _both(*names: str) -> tuple[str, ...]:
    return tuple(f"{side}_{name}" for name in names for side in ("left", "right"))


def _groups(head: tuple[str, ...], trunk: tuple[str, ...]) -> dict[int, dict[str, tuple[str, ...]]]:
    """Return PNFS's part groups for P = 1, 3, 5, 8, given the joints that only the head or the hips part has.

    Source: PNFS's published code, ``body_parts.py``; joints in several parts occur for P = 8 only.
    """
    shoulders, hips = _both("shoulder"), _both("hip") + trunk
    everything = head + _both("shoulder", "elbow", "wrist", "hip", "knee", "ankle") + trunk
    return {
        1: {"body": everything},
        3: {
            "head": head,
            "upper_limb": _both("shoulder", "elbow", "wrist"),
            "lower_limb": _both("hip", "knee", "ankle") + trunk,
        },
        5: {
            "left_arm": ("left_elbow", "left_wrist"),
            "right_arm": ("right_elbow", "right_wrist"),
            "legs": _both("knee", "ankle"),
            "head_shoulder": head + shoulders,
            "hips": hips,
        },
        8: {
            "left_upper_arm": ("left_shoulder", "left_elbow"),
            "right_upper_arm": ("right_shoulder", "right_elbow"),
            "left_lower_arm": ("left_elbow", "left_wrist"),
            "right_lower_arm": ("right_elbow", "right_wrist"),
            "left_lower_leg": ("left_knee", "left_ankle"),
            "right_lower_leg": ("right_knee", "right_ankle"),
            "head_shoulder": head + shoulders,
            "upper_legs": hips + _both("knee"),
        },
    }


_COCO_HEAD = ("nose", *_both("eye", "ear"))

COCO17 = Skeleton(
    name="coco17",
    joints=(*_COCO_HEAD, *_both("shoulder", "elbow", "wrist", "hip", "knee", "ankle")),
    limbs=(
        ("left_ankle", "left_knee"),
        ("left_knee", "left_hip"),
        ("right_ankle", "right_knee"),
        ("right_knee", "right_hip"),
        ("left_hip", "right_hip"),
        ("left_shoulder", "left_hip"),
        ("right_shoulder", "right_hip"),
        ("left_shoulder", "right_shoulder"),
        ("left_shoulder", "left_elbow"),
        ("right_shoulder", "right_elbow"),
        ("left_elbow", "left_wrist"),
        ("right_elbow", "right_wrist"),
        ("left_eye", "right_eye"),
        ("nose", "left_eye"),
        ("nose", "right_eye"),
        ("left_eye", "left_ear"),
        ("right_eye", "right_ear"),
        ("left_ear", "left_shoulder"),
        ("right_ear", "right_shoulder"),
    ),
    # pycocotools, cocoeval.Params.setKpParams: 10 * sigma = .26 .25 .25 .35 .35 .79 .79 .72 .72 .62 .62 1.07 ...
    sigmas=(
        0.026,
        *[0.025] * 2,
        *[0.035] * 2,
        *[0.079] * 2,
        *[0.072] * 2,
        *[0.062] * 2,
        *[0.107] * 2,
        *[0.087] * 2,
        *[0.089] * 2,
    ),
    parts=_groups(_COCO_HEAD, ()),
)

MPII16 = Skeleton(
    name="mpii16",
    joints=(
        "right_ankle",
        "right_knee",
        "right_hip",
        "left_hip",
        "left_knee",
        "left_ankle",
        "pelvis",
        "thorax",
        "upper_neck",
        "head_top",
        "right_wrist",
        "right_elbow",
        "right_shoulder",
        "left_shoulder",
        "left_elbow",
        "left_wrist",
    ),
    limbs=(
        ("right_ankle", "right_knee"),
        ("right_knee", "right_hip"),
        ("right_hip", "pelvis"),
        ("left_hip", "pelvis"),
        ("left_knee", "left_hip"),
        ("left_ankle", "left_knee"),
        ("pelvis", "thorax"),
        ("thorax", "upper_neck"),
        ("upper_neck", "head_top"),
        ("right_wrist", "right_elbow"),
        ("right_elbow", "right_shoulder"),
        ("right_shoulder", "thorax"),
        ("left_shoulder", "thorax"),
        ("left_elbow", "left_shoulder"),
        ("left_wrist", "left_elbow"),
    ),
    # MPII is scored by PCKh; these OKS constants serve tracking and NMS only (COCO's for the joints that COCO has).
    sigmas=(
        0.089,
        0.087,
        0.107,
        0.107,
        0.087,
        0.089,
        0.107,
        0.079,
        0.079,
        0.079,
        0.062,
        0.072,
        0.079,
        0.079,
        0.072,
        0.062,
    ),
    parts=_groups(("head_top", "upper_neck", "thorax"), ("pelvis",)),
)


def _named(text: str) -> tuple[tuple[str, str], ...]:
    """Return limbs from ``joint-joint`` words."""
    pairs = [word.split("-") for word in text.split()]
    return tuple((one, other) for one, other in pairs)


_LIMB_PAIRS = """left_ankle-left_knee left_knee-left_hip right_ankle-right_knee right_knee-right_hip left_hip-right_hip
    left_shoulder-left_hip right_shoulder-right_hip left_shoulder-left_elbow left_elbow-left_wrist
    right_shoulder-right_elbow right_elbow-right_wrist"""
#: OKS constant of a joint of which none is known: that of COCO's shoulders, the middle of the body's.
UNKNOWN_SIGMA = 0.079
_COCO_SIGMAS = dict(zip(COCO17.joints, COCO17.sigmas, strict=True))


def usual_sigmas(joints: tuple[str, ...]) -> tuple[float, ...]:
    """Return COCO's OKS constants for the joints that COCO has, also as ``l_wrist``, and its shoulder's for others."""
    sides = {"l": "left", "r": "right"}
    named = ("_".join(sides.get(word, word) for word in joint.split("_")) for joint in joints)
    return tuple(_COCO_SIGMAS.get(name, UNKNOWN_SIGMA) for name in named)


_LSP_JOINTS = (*MPII16.joints[:6], *MPII16.joints[10:], "neck", "head_top")
LSP14 = Skeleton(
    name="lsp14",
    joints=_LSP_JOINTS,
    limbs=_named(_LIMB_PAIRS + " left_shoulder-neck right_shoulder-neck neck-head_top"),
    sigmas=usual_sigmas(_LSP_JOINTS),
    parts=_groups(("neck", "head_top"), ()),
)

#: CrowdPose's own evaluation uses these OKS constants (``crowdposetools``, ``cocoeval.Params.setKpParams``).
_CROWDPOSE_JOINTS = (*COCO17.joints[5:], "head", "neck")
CROWDPOSE14 = Skeleton(
    name="crowdpose14",
    joints=_CROWDPOSE_JOINTS,
    limbs=_named(_LIMB_PAIRS + " left_shoulder-neck right_shoulder-neck neck-head"),
    sigmas=usual_sigmas(_CROWDPOSE_JOINTS),
    parts=_groups(("head", "neck"), ()),
)

_POSETRACK_JOINTS = ("nose", "head_bottom", "head_top", *COCO17.joints[3:])
POSETRACK17 = Skeleton(
    name="posetrack17",
    joints=_POSETRACK_JOINTS,
    limbs=_named(_LIMB_PAIRS + " left_shoulder-head_bottom right_shoulder-head_bottom head_bottom-nose nose-head_top"),
    sigmas=usual_sigmas(_POSETRACK_JOINTS),
    parts=_groups(("nose", "head_bottom", "head_top", "left_ear", "right_ear"), ()),
)

#: Joints in the order in which OCHumanApi draws them; the file names its own order.
_OCHUMAN_JOINTS = (
    *(f"{side}_{joint}" for side in ("right", "left") for joint in ("shoulder", "elbow", "wrist")),
    *(f"{side}_{joint}" for side in ("right", "left") for joint in ("hip", "knee", "ankle")),
    *("head", "neck", "right_ear", "left_ear", "nose", "right_eye", "left_eye"),
)
OCHUMAN19 = Skeleton(
    name="ochuman19",
    joints=_OCHUMAN_JOINTS,
    limbs=_named(
        _LIMB_PAIRS + " left_shoulder-neck right_shoulder-neck neck-head"
        " nose-left_eye nose-right_eye left_eye-left_ear right_eye-right_ear"
    ),
    sigmas=usual_sigmas(_OCHUMAN_JOINTS),
    parts=_groups(_OCHUMAN_JOINTS[12:], ()),
)

SKELETONS: dict[str, Skeleton] = {
    skeleton.name: skeleton for skeleton in (COCO17, MPII16, LSP14, CROWDPOSE14, POSETRACK17, OCHUMAN19)
}


def skeleton_by_joints(joints: tuple[str, ...]) -> Skeleton | None:
    """Return the known skeleton of exactly these joints; None if there is none."""
    return next((skeleton for skeleton in SKELETONS.values() if skeleton.joints == joints), None)


def skeleton_by_name(name: str) -> Skeleton:
    """Return a known skeleton.

    Raises:
        DataError: there is none of that name.
    """
    try:
        return SKELETONS[name]
    except KeyError:
        raise DataError(f"Unknown skeleton {name!r}. Known: {', '.join(SKELETONS)}.") from None
