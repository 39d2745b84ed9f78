"""How human joints bend: angles within human limits, drawn at random or along a walking cycle."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

#: Ranges of the joint angles in degrees, by manner: (low, high) for left and right alike.
_MANNERS: dict[str, dict[str, tuple[float, float]]] = {
    "stand": {
        "shoulder_flex": (-15, 20), "shoulder_spread": (4, 20), "elbow": (5, 35),
        "hip_flex": (-6, 10), "hip_spread": (1, 9), "knee": (0, 12),
    },
    "gesture": {
        "shoulder_flex": (-10, 120), "shoulder_spread": (5, 60), "shoulder_twist": (-40, 40), "elbow": (20, 130),
        "hip_flex": (-8, 15), "hip_spread": (2, 14), "knee": (0, 20),
    },
    "reach": {
        "shoulder_flex": (90, 175), "shoulder_spread": (0, 35), "elbow": (0, 50),
        "hip_flex": (-10, 25), "hip_spread": (2, 18), "knee": (0, 30), "lean": (-8, 18),
    },
    "star": {
        "shoulder_spread": (55, 150), "shoulder_flex": (-10, 15), "elbow": (0, 45),
        "hip_flex": (-8, 12), "hip_spread": (10, 38), "knee": (0, 25),
    },
    "sit": {
        "shoulder_flex": (5, 55), "shoulder_spread": (3, 25), "elbow": (25, 100),
        "hip_flex": (75, 98), "hip_spread": (2, 22), "knee": (70, 105), "lean": (-8, 20),
    },
    "squat": {
        "shoulder_flex": (20, 90), "shoulder_spread": (3, 30), "elbow": (10, 90),
        "hip_flex": (60, 120), "hip_spread": (5, 30), "knee": (70, 130), "lean": (10, 45),
    },
    "action": {
        "shoulder_flex": (-45, 165), "shoulder_spread": (0, 110), "shoulder_twist": (-60, 60), "elbow": (0, 135),
        "hip_flex": (-25, 100), "hip_spread": (0, 40), "knee": (0, 120), "lean": (-12, 45),
    },
}  # fmt: skip
_SHARES = {
    "stand": 0.2,
    "gesture": 0.16,
    "reach": 0.1,
    "star": 0.09,
    "sit": 0.1,
    "squat": 0.07,
    "action": 0.1,
    "walk": 0.18,
}


@dataclass(frozen=True)
class Posture:
    """Joint angles in degrees; pairs are (left, right).

    Attributes:
        yaw: turn about the vertical; 0 faces the viewer, 90 faces the viewer's right, 180 shows the back.
        lean: of the trunk, forward.
        side: bend of the trunk to the person's left.
        twist: of the shoulders against the hips, to the person's left.
        nod: of the head, forward.
        look: turn of the head, to the person's left.
        shoulder_flex: raises the arm forward.
        shoulder_spread: raises the arm sideways.
        shoulder_twist: turns the upper arm about itself.
        elbow: bends it; 0 is straight.
        hip_flex: raises the leg forward.
        hip_spread: raises the leg sideways.
        knee: bends it; 0 is straight.
    """

    yaw: float = 0.0
    lean: float = 0.0
    side: float = 0.0
    twist: float = 0.0
    nod: float = 0.0
    look: float = 0.0
    shoulder_flex: tuple[float, float] = (0.0, 0.0)
    shoulder_spread: tuple[float, float] = (8.0, 8.0)
    shoulder_twist: tuple[float, float] = (0.0, 0.0)
    elbow: tuple[float, float] = (12.0, 12.0)
    hip_flex: tuple[float, float] = (0.0, 0.0)
    hip_spread: tuple[float, float] = (3.0, 3.0)
    knee: tuple[float, float] = (3.0, 3.0)


def random_posture(rng: np.random.Generator) -> Posture:
    """Draw a posture: standing, walking, gesturing, sitting, ... seen from anywhere."""
    manner = str(rng.choice(list(_SHARES), p=np.array(list(_SHARES.values())) / sum(_SHARES.values())))
    # Mostly from the front or the back quarter, as people are photographed, at times exactly from the side.
    yaw = float(rng.normal(rng.choice([0, 180, 90, -90], p=[0.5, 0.2, 0.15, 0.15]), 30))
    nod, look = float(rng.uniform(-12, 25)), float(rng.uniform(-45, 45))
    if manner == "walk":
        return replace(walking(rng.uniform(0, 1), brisk=rng.uniform(0.7, 1.7)), yaw=yaw, nod=nod, look=look)
    drawn: dict[str, tuple[float, float]] = {}
    ranges = dict(_MANNERS[manner])
    lean = float(rng.uniform(*ranges.pop("lean", (-3, 6))))
    for name, (low, high) in ranges.items():
        drawn[name] = (float(rng.uniform(low, high)), float(rng.uniform(low, high)))
    side, twist = float(rng.uniform(-10, 10)), float(rng.uniform(-20, 20))
    return replace(Posture(yaw, lean, side, twist, nod, look), **drawn)  # type: ignore[arg-type]


def walking(phase: float, *, brisk: float = 1.0) -> Posture:
    """Return the posture at a phase (0 to 1) of a walking cycle; ``brisk`` 1 is a walk, 1.7 a run."""
    angle = 2 * np.pi * (phase + np.array([0.0, 0.5]))
    hip = 4 + 24 * brisk * np.sin(angle)
    knee = 8 + 26 * brisk * np.clip(np.cos(angle + 0.35), 0, None) ** 1.5 + 6 * np.clip(-np.sin(angle), 0, None)
    arm = -20 * brisk * np.sin(angle)

    def pair(values: NDArray[np.floating]) -> tuple[float, float]:
        return float(values[0]), float(values[1])

    return Posture(
        lean=2 + 5 * (brisk - 1),
        twist=float(-5 * brisk * np.sin(angle[0])),
        shoulder_flex=pair(arm),
        shoulder_spread=(7.0, 7.0),
        elbow=pair(np.clip(18 + 12 * brisk + 50 * (brisk - 1) + 10 * np.sin(-angle), 5, 110)),
        hip_flex=pair(hip),
        knee=pair(np.clip(knee, 2, 125)),
    )
