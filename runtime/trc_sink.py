"""OpenSim's ``.trc``: the marker positions of one person per file, in the plane of the image.

The format: five header lines (path line, field names, field values, marker names, axis names), a blank line, then one
line per frame: number, time, X Y Z of each marker, separated by tabs; a missing marker's fields are empty.
One camera knows no depth and no scale: X points right from the image's left edge, Y up from its bottom edge, Z is 0,
and one pixel is written as one millimetre.
"""

import logging
import re
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from autopose.files import NAMES_AS_TEXT, on_one_line
from autopose.poses import Poses
from autopose.runtime.sinks import Sink, SinkContext, remove_earlier
from autopose.runtime.video import Frame

log = logging.getLogger(__name__)

#: Lines without markers, at most, for the time between two frames: a recorder's clock that is set to the day's date
#: while it runs jumps by years, which would fill the disk. A person may be away for longer.
_LONGEST_GAP = 10_000
#: The header's counts are padded to this width, so that they can be corrected in place while the file grows.
_WIDTH = 9
_FIELDS = ("DataRate", "CameraRate", "NumFrames", "NumMarkers", "Units", "OrigDataRate", "OrigDataStartFrame",
           "OrigNumFrames")  # fmt: skip


class TrcSink(Sink):
    """Writes ``STEM_idN.trc`` for every track N; each file is whole after every frame.

    A person's file spans the frames from the first to the last sighting; frames between without the person are lines
    with empty fields, since the format wants a constant rate.
    """

    ending = ".trc"
    #: Joints below it are missing markers.
    min_score = 0.2

    def __init__(self, context: SinkContext) -> None:
        super().__init__(context)
        self._tracks: dict[int, _TrcFile] = {}
        self._rate = float(context.fps or 1)
        self._last_s: float | None = None

    def _begin(self, frame: Frame) -> None:
        remove_earlier(self.context.out, rf"{re.escape(self.context.spec.name)}_id\d+\.trc")

    def _add(self, frame: Frame, poses: Poses, drawn: NDArray[np.uint8] | None) -> None:
        """Append a line to each person's file."""
        ids = range(len(poses)) if poses.ids is None else poses.ids.tolist()
        time_s = frame.time_s if frame.time_s is not None else float(frame.index)
        if self._last_s is not None and round((time_s - self._last_s) * self._rate) > _LONGEST_GAP:
            name, pause_s = self.context.spec.name, time_s - self._last_s
            log.warning("%s: no frame for %.0f s: the .trc files have no empty lines for that.", name, pause_s)
            for person in self._tracks.values():
                person.last_s = time_s
        self._last_s = time_s
        for i, track in enumerate(ids):
            if track not in self._tracks:
                path = self.context.path(f"_id{track}.trc")
                self._tracks[track] = _TrcFile(path, self.context.skeleton.joints, self._rate, frame.index, time_s)
            xy = poses.keypoints[i].astype(np.float64) + 0.5  # from the middle of the first pixel to the image's corner
            xy[:, 1] = frame.size_wh[1] - xy[:, 1]
            xy[poses.keypoint_scores[i] < self.min_score] = np.nan
            self._tracks[track].append(xy, time_s)

    def close(self) -> list[Path]:
        """Return the files."""
        return [track.path for track in self._tracks.values()]


class _TrcFile:
    """One person's file, opened for each line only: a crowd would use up the file handles."""

    def __init__(self, path: Path, joints: tuple[str, ...], rate: float, first: int, time_s: float) -> None:
        self.path, self.rate, self.joints = path, rate, joints
        self.first, self.last_s, self.lines = first, time_s, 0
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", errors=NAMES_AS_TEXT, newline="\n") as out:
            self._header(out)
            names = "\t\t\t".join(joints)
            axes = "\t".join(f"{axis}{k}" for k in range(1, len(joints) + 1) for axis in "XYZ")
            out.write(f"Frame#\tTime\t{names}\t\t\n\t\t{axes}\n\n")

    def _header(self, out: IO[Any]) -> None:
        """Write the first three lines, always of the same length."""
        count = f"{self.lines:<{_WIDTH}d}"
        values = (f"{self.rate:<{_WIDTH}.3f}", f"{self.rate:<{_WIDTH}.3f}", count, str(len(self.joints)), "mm",
                  f"{self.rate:<{_WIDTH}.3f}", f"{self.first:<{_WIDTH}d}", count)  # fmt: skip
        out.write(f"PathFileType\t4\t(X/Y/Z)\t{on_one_line(self.path.name)}\n")
        out.write("\t".join(_FIELDS) + "\n" + "\t".join(values) + "\n")

    def append(self, xy: NDArray[np.float64], time_s: float) -> None:
        """Add a frame, and lines without markers for those since the last one."""
        gap = round((time_s - self.last_s) * self.rate)
        with self.path.open("r+", encoding="utf-8", errors=NAMES_AS_TEXT, newline="\n") as out:
            out.seek(0, 2)
            for missing in range(1, gap):
                between = self.last_s + (time_s - self.last_s) * missing / gap
                out.write(self._line(between, np.full_like(xy, np.nan)))
            out.write(self._line(time_s, xy))
            out.seek(0)
            self._header(out)
        self.last_s = time_s

    def _line(self, time_s: float, xy: NDArray[np.float64]) -> str:
        self.lines += 1
        cells = ["\t\t" if np.isnan(x) else f"{x:.3f}\t{y:.3f}\t0.000" for x, y in xy]
        return f"{self.lines}\t{time_s:.6f}\t" + "\t".join(cells) + "\n"
