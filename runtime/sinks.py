"""What every output format is made of: a sink takes the frames in order, and its files are readable after a kill."""

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from autopose.poses import Poses
from autopose.runtime.sources import SourceSpec
from autopose.runtime.video import Frame
from autopose.skeleton import Skeleton


@dataclass(frozen=True)
class SinkContext:
    """What a sink has to know about the run.

    Attributes:
        spec: the source.
        out: folder of the results.
        skeleton: meaning of the joints.
        fps: of the source; None for separate images.
        has_audio: whether the source file has sound to take along.
        model: facts about the models, for the JSON's header.
    """

    spec: SourceSpec
    out: Path
    skeleton: Skeleton
    fps: Fraction | None = None
    has_audio: bool = False
    model: dict[str, Any] = field(default_factory=dict)

    def path(self, ending: str) -> Path:
        """Return the output file of the source with an ending such as ``.json``."""
        return output_path(self.out, self.spec, ending)


def output_path(out: Path, spec: SourceSpec, ending: str) -> Path:
    """Return an output file of a source in a folder."""
    return out / f"{spec.name}{ending}"


def remove_earlier(folder: Path, name: str) -> None:
    """Remove what an earlier run left where this one writes numbered files: a reader could not tell them apart.

    Args:
        folder: need not exist.
        name: regular expression of the whole file name.
    """
    if folder.is_dir():
        for path in folder.iterdir():
            if re.fullmatch(name, path.name):
                path.unlink()


class Sink(ABC):
    """Takes every frame in order; makes no file before the first one."""

    #: What its file or folder has behind the source's name.
    ending: ClassVar[str]
    #: Whether ``write`` wants the picture with skeletons.
    needs_drawing = False
    #: What could not be written, as a sentence.
    problem: str | None = None
    #: Whether a frame has come.
    _begun = False

    def __init__(self, context: SinkContext) -> None:
        self.context = context

    @property
    def destination(self) -> Path:
        """Return its file or folder."""
        return self.context.path(self.ending)

    def write(self, frame: Frame, poses: Poses, drawn: NDArray[np.uint8] | None) -> None:
        """Take a frame, its poses and, if asked for, the picture with skeletons."""
        if not self._begun:
            self._begin(frame)
            self._begun = True
        self._add(frame, poses, drawn)

    def _begin(self, frame: Frame) -> None:  # noqa: B027 - some have nothing to prepare
        """Prepare for the first frame: open files, remove those of an earlier run."""

    @abstractmethod
    def _add(self, frame: Frame, poses: Poses, drawn: NDArray[np.uint8] | None) -> None:
        """Write a frame."""

    @abstractmethod
    def close(self) -> list[Path]:
        """Finish the files and return them."""
