"""Frames that the caller's own code gets, one after the other, as a source to be tracked."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from numbers import Real
from typing import Any

import numpy as np

from autopose.runtime.images import as_bgr
from autopose.runtime.sources import Selection, Source, SourceSpec
from autopose.runtime.video import Frame


class OwnFrames(Source):
    """Any iterable of images, or of pairs of seconds and image; read in a thread, one image ahead or a few.

    Args:
        images: see above; ends the source where it ends.
        fps: images per second, which give the times where the images have none.
        rgb: arrays are RGB.
        selection: part of it.

    Raises:
        TypeError: it is one image.
    """

    def __init__(self, images: Iterable[Any], fps: float, *, rgb: bool, selection: Selection) -> None:
        super().__init__(SourceSpec("frames", "video", "frames"))
        if isinstance(images, np.ndarray) and images.ndim != 4:
            raise TypeError(
                f"track() takes many images, got an array of shape {images.shape}; expected (N, H, W, 3), a list or a "
                "generator. For one image call predict()."
            )
        self._images, self._rgb, self._selection, self._rate = images, rgb, selection, fps
        self.fps = Fraction(fps).limit_denominator(1_000_000) / selection.stride

    def __iter__(self) -> Iterator[Frame]:
        chosen, count = self._selection, 0
        for index, given in enumerate(self._images):
            image, time_s = given, index / self._rate
            if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], Real):
                time_s, image = float(given[0]), given[1]
            if chosen.end_s is not None and time_s >= chosen.end_s:
                return
            if index % chosen.stride or time_s < chosen.start_s:
                continue
            yield Frame(as_bgr(image, rgb=self._rgb), index, time_s)
            count += 1
            if count == chosen.max_frames:
                return
