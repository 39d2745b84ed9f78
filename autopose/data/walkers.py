"""A clip of figures that walk round in a park, with their true poses in every frame."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from autopose.data.backdrop import outdoors
from autopose.data.composition import Actor, compose
from autopose.data.figure import Build, pose_figure
from autopose.data.posture import Posture, walking
from autopose.data.rendering import Outfit
from autopose.poses import Poses


def synthetic_clip(
    frames: int, *, size_wh: tuple[int, int] = (640, 360), persons: int = 2, seed: int = 0, fps: float = 25.0
) -> Iterator[tuple[NDArray[np.uint8], Poses]]:
    """Yield frames of figures that walk round in a park, and their true poses.

    The persons go along ellipses on the ground, so that each is seen from all sides and passes in front of others; ids
    are 1 to ``persons`` and stay. Joint scores are 1 where seen, 0.5 where hidden, 0 outside of the picture.
    """
    rng = np.random.default_rng([seed, 0])
    backdrop, horizon = outdoors(size_wh, rng)
    walkers = [_Walker.random(i, persons, rng) for i in range(persons)]
    for frame in range(frames):
        placed = [walker.at(frame / fps, size_wh, horizon) for walker in walkers]
        order = sorted(range(persons), key=lambda i: placed[i].height_px)
        picture, truth = compose(backdrop, [placed[i] for i in order])
        seen = np.flatnonzero(truth.area >= 40)
        yield (
            picture,
            Poses(
                truth.boxes[seen].astype(np.float32),
                np.ones(len(seen), np.float32),
                truth.xy[seen].astype(np.float32),
                (truth.visibility[seen] / 2).astype(np.float32),
                ids=np.array(order, np.int64)[seen] + 1,
                image_size_wh=size_wh,
            ),
        )


@dataclass(frozen=True)
class _Walker:
    """Somebody who goes round an ellipse on the ground."""

    build: Build
    outfit: Outfit
    clothes: dict[str, str]
    start: float
    period_s: float
    reach: tuple[float, float]
    waves: bool

    @staticmethod
    def random(index: int, count: int, rng: np.random.Generator) -> "_Walker":
        clothes = {
            "sleeves": str(rng.choice(["short", "long"])),
            "legs": str(rng.choice(["short", "long"])),
            "hair": str(rng.choice(["short", "long", "cap"])),
        }
        return _Walker(
            Build.random(rng),
            Outfit.random(rng),
            clothes,
            start=2 * np.pi * (index / count + float(rng.uniform(-0.08, 0.08))),
            period_s=float(rng.uniform(9, 13)) * (1 if index % 2 == 0 else -1),
            reach=(float(rng.uniform(0.26, 0.36)), float(rng.uniform(0.12, 0.2))),
            waves=index % 3 == 0,
        )

    def at(self, time_s: float, size_wh: tuple[int, int], horizon: float) -> Actor:
        """Return the walker at a time."""
        width, height = size_wh
        angle = self.start + 2 * np.pi * time_s / self.period_s
        side, near = np.cos(angle), np.sin(angle)
        going = np.sign(self.period_s)
        # The direction of travel on the ground: to the right is yaw 90, towards the viewer 0.
        yaw = float(np.rad2deg(np.arctan2(-np.sin(angle) * going * 1.6, np.cos(angle) * going)))
        ground = 0.62 + self.reach[1] * near
        tall = (0.5 + 0.95 * self.reach[1] * near) * height * 1.08
        posture: Posture = replace(walking(time_s * 0.95 + self.start, brisk=0.95), yaw=yaw, look=0.0, nod=4.0)
        lift = np.clip(3 * np.sin(2 * np.pi * time_s / 6.0), 0, 1) if self.waves else 0.0
        if lift:  # raises the right hand and waves now and then
            flex, spread, elbow = posture.shoulder_flex[1], posture.shoulder_spread[1], posture.elbow[1]
            posture = replace(
                posture,
                shoulder_flex=(posture.shoulder_flex[0], flex + float(lift) * (20 - flex)),
                shoulder_spread=(posture.shoulder_spread[0], spread + float(lift) * (118 - spread)),
                elbow=(posture.elbow[0], elbow + float(lift) * (62 + 22 * np.sin(2 * np.pi * time_s * 1.6) - elbow)),
            )
        figure = pose_figure(posture, self.build, camera_pitch=6, **self.clothes)
        low = max(point[1] for point in figure.joints.values()) + 0.035
        feet = horizon + (height - horizon) * (ground - 0.5) / 0.36
        return Actor(figure, self.outfit, (width * (0.5 + self.reach[0] * side), float(feet - low * tall)), tall)
