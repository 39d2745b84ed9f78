"""Pictures: annotated video and images, persons cut out, contact sheets."""

import random
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autopose.affine import warp_shrunk, within_reach
from autopose.drawing import draw_person
from autopose.errors import MediaError
from autopose.image_files import write_image
from autopose.poses import Poses
from autopose.runtime.sinks import Sink, SinkContext, remove_earlier
from autopose.runtime.video import Frame
from autopose.runtime.video_writer import VideoWriter


class VideoSink(Sink):
    """Annotated H.264 with the source's timestamps and sound."""

    ending = ".mp4"
    needs_drawing = True
    _writer: VideoWriter

    def _begin(self, frame: Frame) -> None:
        fps = self.context.fps or Fraction(2)  # separate images: two per second
        time_base = frame.time_base or 1 / fps
        self._writer = VideoWriter(self.destination, frame.size_wh, fps=fps, time_base=time_base)

    def _add(self, frame: Frame, poses: Poses, drawn: NDArray[np.uint8] | None) -> None:
        """Encode the drawn frame."""
        assert drawn is not None
        self._writer.write(drawn, frame.pts)

    def close(self) -> list[Path]:
        """Finish the MP4."""
        if not self._begun:
            return []
        path = self._writer.close(self.context.spec.files[0] if self.context.has_audio else None)
        return [path] if path else []


class ImagesSink(Sink):
    """Annotated images: one beside the other for separate images, numbered in a folder for a video."""

    ending = "-frames"
    #: Behind the stem of a separate image.
    image_ending = ".jpg"
    needs_drawing = True

    def __init__(self, context: SinkContext) -> None:
        super().__init__(context)
        self._written: list[Path] = []

    def _begin(self, frame: Frame) -> None:
        if frame.stem is None:
            remove_earlier(self.destination, r"\d{6,}\.jpg")

    def _add(self, frame: Frame, poses: Poses, drawn: NDArray[np.uint8] | None) -> None:
        """Write the drawn frame as JPEG."""
        assert drawn is not None
        if frame.stem is not None:
            path = self.context.out / f"{frame.stem}{self.image_ending}"
            self._written.append(path)
        else:
            path = self.destination / f"{frame.index:06d}.jpg"
            self._written = [self.destination]
        try:
            write_image(path, drawn)
        except MediaError as error:  # a picture of a size that JPEG has no room for: the others are written
            if frame.stem is None:
                raise
            self.problem = str(error)
            self._written.remove(path)

    def close(self) -> list[Path]:
        """Return the images, or the folder that holds them."""
        return self._written


class CropsSink(Sink):
    """A folder with every person of every frame: ``FRAME_ID.jpg``, without skeletons."""

    ending = "-crops"
    _wrote = False

    def _begin(self, frame: Frame) -> None:
        remove_earlier(self.destination, r".+_(p|id)\d+\.jpg")

    def _add(self, frame: Frame, poses: Poses, drawn: NDArray[np.uint8] | None) -> None:
        """Cut the persons out."""
        stem = frame.stem or f"{frame.index:06d}"
        for i, picture in enumerate(poses.crop(frame.image)):
            who = f"p{i}" if poses.ids is None else f"id{int(poses.ids[i])}"
            write_image(self.destination / f"{stem}_{who}.jpg", picture)
            self._wrote = True

    def close(self) -> list[Path]:
        """Return the folder."""
        return [self.destination] if self._wrote else []


class SheetSink(Sink):
    """A contact sheet of persons with their skeletons, as the AutoPose paper's Figure 5.

    At most ``rows * columns`` persons: of more, a uniform sample in the source's order (algorithm R, Vitter 1985), the
    same in every run. Every n-th would show the same few again and again where each frame holds as many.
    """

    ending = "-sheet.jpg"
    columns, rows, cell_wh = 8, 5, (144, 192)

    def __init__(self, context: SinkContext) -> None:
        super().__init__(context)
        self._cells: list[tuple[int, NDArray[np.uint8]]] = []
        self._count = 0
        self._choice = random.Random(0)

    def _add(self, frame: Frame, poses: Poses, drawn: NDArray[np.uint8] | None) -> None:
        """Keep some of the frame's persons."""
        for i in range(len(poses)):
            if len(self._cells) < self.columns * self.rows:
                self._cells.append((self._count, person_cell(frame.image, poses, i, self.cell_wh)))
            elif (place := self._choice.randrange(self._count + 1)) < len(self._cells):
                self._cells[place] = self._count, person_cell(frame.image, poses, i, self.cell_wh)
            self._count += 1

    def close(self) -> list[Path]:
        """Lay the persons out on one image; without persons, remove an earlier run's."""
        if self._begun and not self._cells:
            self.destination.unlink(missing_ok=True)
        if not self._cells:
            return []
        gap, (width, height) = 4, self.cell_wh
        columns = min(self.columns, len(self._cells))
        rows = -(-len(self._cells) // columns)
        sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), 255, np.uint8)
        for i, (_, cell) in enumerate(sorted(self._cells, key=lambda numbered: numbered[0])):
            y, x = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
            sheet[y : y + height, x : x + width] = cell
        write_image(self.destination, sheet)
        return [self.destination]


def person_cell(image: NDArray[np.uint8], poses: Poses, index: int, cell_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """Return one person with the skeleton, cut out with a margin, in the middle of a dark cell of a fixed size."""
    person = poses[index]
    x0, y0, x1, y1 = person.boxes[0].astype(float)
    center = np.array([x0 + x1, y0 + y1]) / 2
    scale = min(cell_wh[0] / max(x1 - x0, 1), cell_wh[1] / max(y1 - y0, 1)) / 1.15
    shift = np.array(cell_wh) / 2 - scale * center
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
    # To shrink all of a large picture for each person takes long.
    part, matrix = within_reach(image, matrix, cell_wh, margin=2)
    cell = warp_shrunk(part, matrix, cell_wh, border=(40, 40, 40))  # OpenCV's own warp knows no INTER_AREA
    placed = replace(
        person,
        boxes=(person.boxes * scale + np.tile(shift, 2)).astype(np.float32),
        keypoints=(person.keypoints * scale + shift).astype(np.float32),
    )
    draw_person(cell, placed, 0)
    return cell
