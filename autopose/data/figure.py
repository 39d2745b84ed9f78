"""An articulated human figure: joint angles to joints and body parts in three dimensions.

Body frame: x to the person's left, y down, z backward, lengths in body heights. A figure at yaw 0 faces the viewer.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from autopose.data.posture import Posture

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Build:
    """Proportions in body heights."""

    shoulder_half: float = 0.107
    hip_half: float = 0.056
    trunk: float = 0.29
    neck: float = 0.062
    head: float = 0.07
    upper_arm: float = 0.165
    forearm: float = 0.15
    thigh: float = 0.245
    shin: float = 0.24
    foot: float = 0.095
    girth: float = 1.0

    @staticmethod
    def random(rng: np.random.Generator) -> "Build":
        """Draw proportions around the average."""
        basis = Build()
        names = [name for name in basis.__dataclass_fields__ if name != "girth"]
        varied = {name: getattr(basis, name) * float(rng.normal(1, 0.05)) for name in names}
        return Build(**varied, girth=float(rng.uniform(0.85, 1.3)))


@dataclass(frozen=True)
class Part:
    """A round cone from ``start`` to ``end`` (body frame), and what covers it."""

    start: Vector
    end: Vector
    radii: tuple[float, float]
    material: str


@dataclass(frozen=True)
class Figure:
    """A posed body.

    Attributes:
        joints: COCO-17 name -> ``(3,)`` position in body heights around the pelvis, x right in the picture, y down, z
            away from the viewer.
        parts: what to draw, in the same frame.
        trunk_frame: ``(3, 3)`` columns left, down, back of the trunk, for the pattern of the clothes.
        trunk_origin: ``(3,)`` where the neck meets the trunk.
        depth_of: COCO-17 name -> radius of flesh in front of the joint.
    """

    joints: dict[str, Vector]
    parts: tuple[Part, ...]
    trunk_frame: NDArray[np.float64]
    trunk_origin: Vector
    depth_of: dict[str, float] = field(default_factory=dict)


def _turn(axis: int, degrees: float) -> NDArray[np.float64]:
    """Return the rotation about x, y or z (right-handed in its plane)."""
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.eye(3)
    i, j = [(1, 2), (2, 0), (0, 1)][axis]
    matrix[[i, i, j, j], [i, j, i, j]] = [cos, -sin, sin, cos]
    return matrix


def pose_figure(
    posture: Posture,
    build: Build,
    *,
    camera_pitch: float = 0.0,
    sleeves: str = "short",
    legs: str = "long",
    hair: str = "short",
) -> Figure:
    """Bend a body into a posture.

    Args:
        posture: joint angles.
        build: proportions.
        camera_pitch: degrees by which the viewer looks down.
        sleeves: ``short`` or ``long``.
        legs: ``short`` or ``long`` trousers.
        hair: ``short``, ``long`` or ``cap``.
    """
    down, forward = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, -1.0])
    # Body x is the person's left, which is the picture's right when facing the viewer.
    world = _turn(0, camera_pitch) @ _turn(1, -posture.yaw)
    hips = world
    trunk = hips @ _turn(0, posture.lean) @ _turn(2, posture.side) @ _turn(1, -posture.twist)
    head_turn = trunk @ _turn(0, posture.nod) @ _turn(1, -posture.look)
    g = build.girth
    neck = trunk @ (-down * build.trunk)
    joints: dict[str, Vector] = {}
    parts: list[Part] = []

    def add(start: Vector, end: Vector, r0: float, r1: float, material: str) -> None:
        parts.append(Part(start, end, (r0, r1), material))

    for index, side in enumerate(("left", "right")):
        out = np.array([1.0 if index == 0 else -1.0, 0, 0])
        sign = 1 if index == 0 else -1
        shoulder = neck + trunk @ (out * build.shoulder_half + down * 0.028)
        arm = trunk @ _turn(2, -sign * posture.shoulder_spread[index]) @ _turn(0, -posture.shoulder_flex[index])
        elbow = shoulder + arm @ down * build.upper_arm
        fore = arm @ _turn(1, -sign * posture.shoulder_twist[index]) @ _turn(0, -posture.elbow[index])
        wrist = elbow + fore @ down * build.forearm
        hip = hips @ (out * build.hip_half)
        leg = hips @ _turn(2, -sign * posture.hip_spread[index]) @ _turn(0, -posture.hip_flex[index])
        knee = hip + leg @ down * build.thigh
        lower = leg @ _turn(0, posture.knee[index])
        ankle = knee + lower @ down * build.shin
        for name, point in zip(("shoulder", "elbow", "wrist", "hip", "knee", "ankle"),
                               (shoulder, elbow, wrist, hip, knee, ankle), strict=True):  # fmt: skip
            joints[f"{side}_{name}"] = point
        sleeve = shoulder + (elbow - shoulder) * 0.55
        add(shoulder, sleeve, 0.036 * g, 0.033 * g, "shirt")
        add(sleeve, elbow, 0.029 * g, 0.025 * g, "shirt" if sleeves == "long" else "skin")
        add(elbow, wrist, 0.025 * g, 0.017 * g, "shirt" if sleeves == "long" else "skin")
        add(wrist, wrist + fore @ (down + 0.25 * forward) * 0.045, 0.017, 0.021, "skin")
        add(hip + hips @ (out * 0.004), knee, 0.054 * g, 0.036 * g, "trousers")
        add(knee, ankle, 0.035 * g, 0.022 * g, "trousers" if legs == "long" else "skin")
        heel = ankle + lower @ (down * 0.014 - forward * 0.018)
        add(heel, ankle + lower @ (down * 0.022 + forward * build.foot), 0.021, 0.017, "shoe")
        # The flank: shoulder to hip. Together with the middle they make a trunk that is wide and flat.
        add(neck + trunk @ (out * build.shoulder_half * 0.7 + down * 0.05), hip + hips @ (-down * 0.05), 0.05 * g,
            0.046 * g, "shirt")  # fmt: skip
        inner = neck + trunk @ (out * build.shoulder_half * 0.34 + down * 0.06)
        add(inner, hips @ (out * build.hip_half * 0.45 - down * 0.045), 0.057 * g, 0.053 * g, "shirt")
        add(neck + trunk @ (down * 0.015), shoulder, 0.026 * g, 0.034 * g, "shirt")
    add(neck + trunk @ (down * 0.065), hips @ (-down * 0.045), 0.057 * g, 0.054 * g, "shirt")
    add(joints["left_hip"] - hips @ (down * 0.012), joints["right_hip"] - hips @ (down * 0.012), 0.052 * g, 0.052 * g,
        "trousers")  # fmt: skip
    r = build.head
    center = (
        neck
        + trunk @ (-down * build.neck * 0.75)
        + head_turn @ (-down * (build.neck * 0.25 + r * 0.85) + forward * 0.012)
    )
    add(neck, center + head_turn @ (down * r * 0.6), 0.029, 0.028, "skin")
    _add_head(joints, parts, center, head_turn, r, hair)
    flesh = {"nose": 0.012, "eye": 0.012, "ear": 0.02, "shoulder": 0.07 * g, "hip": 0.08 * g}
    depth = {name: flesh.get(name.rpartition("_")[2], 0.05) for name in joints}
    return Figure(joints, tuple(parts), trunk, neck, depth)


def _add_head(
    joints: dict[str, Vector], parts: list[Part], center: Vector, turn: NDArray[np.float64], r: float, hair: str
) -> None:
    """Put skull, face, ears and hair at the head's centre; the face points to -z of its frame."""

    def at(x: float, y: float, z: float) -> Vector:
        return np.asarray(center + turn @ (np.array([x, y, z]) * r))

    parts.append(Part(at(0, -0.18, 0.05), at(0, 0.42, -0.16), (0.86 * r, 0.62 * r), "skin"))
    joints["nose"] = at(0, 0.12, -0.98)
    parts.append(Part(at(0, -0.1, -0.8), joints["nose"], (0.07 * r, 0.13 * r), "nose"))
    parts.append(Part(at(0.2, 0.5, -0.69), at(-0.2, 0.5, -0.69), (0.07 * r, 0.07 * r), "mouth"))
    for side, sign in (("left", 1), ("right", -1)):
        joints[f"{side}_eye"] = at(sign * 0.33, -0.16, -0.76)
        joints[f"{side}_ear"] = at(sign * 0.84, 0.05, 0.06)
        eye = at(sign * 0.33, -0.16, -0.72)
        parts.append(Part(eye, eye, (0.15 * r, 0.15 * r), "eyeball"))
        parts.append(
            Part(at(sign * 0.33, -0.16, -0.83), at(sign * 0.33, -0.16, -0.83), (0.085 * r, 0.085 * r), "pupil")
        )
        parts.append(Part(at(sign * 0.2, -0.36, -0.77), at(sign * 0.48, -0.36, -0.7), (0.05 * r, 0.04 * r), "hair"))
        parts.append(Part(at(sign * 0.84, -0.08, 0.06), at(sign * 0.82, 0.2, 0.04), (0.14 * r, 0.1 * r), "ear"))
    cover = "cap" if hair == "cap" else "hair"
    parts.append(Part(at(0, -0.36, 0.16), at(0, 0.1, 0.34), (0.86 * r, 0.68 * r), cover))
    if hair == "cap":
        parts.append(Part(at(0.3, -0.5, -0.75), at(-0.3, -0.5, -0.75), (0.2 * r, 0.2 * r), "cap"))
    if hair == "long":
        parts.append(Part(at(0, 0.0, 0.45), at(0, 1.25, 0.55), (0.62 * r, 0.45 * r), "hair"))
