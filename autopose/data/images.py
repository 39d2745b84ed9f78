"""Where pictures come from: files on disk, or one memory-mapped file of pictures decoded beforehand."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from autopose.errors import DataError, MediaError
from autopose.files import atomic_path, path_from
from autopose.image_files import read_image

#: How the folder of pictures is told to a command, and to a recipe.
IMAGES_OPTION = """--images DIR, or, to train and search, with images="DIR" in data.sources"""
_MAGIC = b"APPACK01"
#: So many pictures, from all over the list, tell how large a pack will be, well enough to stop before hours and a full
#: disk.
_TELLING = 200


def picture_exists(path: Path) -> bool:
    """Tell whether a picture's file is there; a name that no file can have, being too long, is that of none."""
    try:
        return path.is_file()
    except OSError:
        return False


class ImageReader(Protocol):
    """Anything that turns a path into a picture."""

    def read(self, path: Path) -> NDArray[np.uint8]:
        """Return the picture ``(H, W, 3)`` uint8 BGR; the caller must not modify it.

        Raises:
            MediaError: it is missing or cannot be decoded.
        """
        ...


class DiskReader:
    """Decode the file at every read, ignoring EXIF rotation as COCO's annotations do."""

    def read(self, path: Path) -> NDArray[np.uint8]:
        """Return the picture, see :class:`ImageReader`."""
        if not picture_exists(path):
            raise MediaError(
                f"No image {str(path)!r}. Name the folder that 'file_name' is relative to with {IMAGES_OPTION}."
            )
        return read_image(path, upright=False)


class PackedReader:
    """Read pictures from a file written by :func:`pack_images`, without copying or decoding.

    The file is raw BGR bytes, one picture after the other; then a JSON index; then its length and a mark. Readers in
    several processes share the pages.
    """

    def __init__(self, pack: Path, *, root: Path | None = None) -> None:
        """Open a pack.

        Args:
            pack: the file.
            root: folder that the packed paths are under on this machine; None: where they were when packed.

        Raises:
            DataError: it is not a pack.
        """
        self.pack = Path(pack)
        try:
            with self.pack.open("rb") as file:
                file.seek(-16, os.SEEK_END)
                footer = file.read(16)
                if footer[8:] != _MAGIC:
                    raise ValueError("its last bytes are not a pack's")
                length = int.from_bytes(footer[:8], "little")
                file.seek(-16 - length, os.SEEK_END)
                index = json.loads(file.read(length))
                size = self.pack.stat().st_size - 16 - length
            found = {str(name): (int(o), int(h), int(w)) for name, (o, h, w) in index["images"].items()}
            stored = Path(index["root"])
            outside = [name for name, (o, h, w) in found.items() if min(o, h - 1, w - 1) < 0 or o + 3 * h * w > size]
            if outside:
                raise ValueError(f"its index puts {outside[0]!r} outside of the file")
        except (AttributeError, KeyError, OSError, RecursionError, TypeError, ValueError) as error:
            raise DataError(
                f"{str(pack)!r} is not a pack of images ({error}).\n"
                "Write one with: autopose data pack ANNOTATIONS.json -o FILE"
            ) from None
        self._root = Path(root).absolute() if root is not None else stored
        self._images: dict[str, tuple[int, int, int]] = found
        self._bytes = np.memmap(self.pack, np.uint8, "r")

    def __getstate__(self) -> dict[str, Any]:
        """Leave the pixels out: a loader process that is not forked maps the file itself."""
        return {**self.__dict__, "_bytes": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._bytes = np.memmap(self.pack, np.uint8, "r")

    def __len__(self) -> int:
        return len(self._images)

    def __contains__(self, path: Path) -> bool:
        return self._name(path) in self._images

    def _name(self, path: Path) -> str:
        return path_from(self._root, path)

    def read(self, path: Path) -> NDArray[np.uint8]:
        """Return a read-only view of the picture, see :class:`ImageReader`."""
        try:
            offset, height, width = self._images[self._name(path)]
        except KeyError:
            raise MediaError(
                f"{str(path)!r} is not in the pack {str(self.pack)!r}. Pack its annotations too."
            ) from None
        view = self._bytes[offset : offset + height * width * 3]
        return np.asarray(view).reshape(height, width, 3)


def _common_folder(paths: Sequence[Path]) -> Path:
    try:
        return Path(os.path.commonpath([path.parent for path in paths]))
    except ValueError:  # on two drives of Windows: those on the other are stored whole
        return paths[0].parent


def pack_images(paths: Iterable[Path], out: Path, *, on_image: Callable[[Path], None] | None = None) -> Path:
    """Decode pictures once into one file for :class:`PackedReader`; names are relative to their common folder.

    Args:
        paths: the pictures; one that occurs twice is packed once.
        out: the file to write, in one step at the end.
        on_image: called after each, for progress.

    Raises:
        MediaError: one is missing or cannot be decoded.
        DataError: there are none, or, judged by a few hundred, the disk has no room for all.
    """
    absolute = list(dict.fromkeys(Path(os.path.abspath(path)) for path in paths))
    if not absolute:
        raise DataError("There are no images to pack.")
    root = _common_folder(absolute)
    reader, index, offset = DiskReader(), {}, 0
    with atomic_path(out) as temporary, temporary.open("wb") as file:
        for path in _telling_first(absolute):
            image = reader.read(path)
            file.write(np.ascontiguousarray(image).data)
            index[path_from(root, path)] = (offset, image.shape[0], image.shape[1])
            offset += image.size
            if len(index) == _TELLING:
                _need_room(out, temporary.parent, offset * (len(absolute) - _TELLING) // _TELLING, len(absolute))
            if on_image is not None:
                on_image(path)
        text = json.dumps({"root": str(root), "images": index}).encode()
        file.write(text + len(text).to_bytes(8, "little") + _MAGIC)
    return Path(out)


def _telling_first(paths: Sequence[Path]) -> list[Path]:
    """Return all, those first that tell how large a pack will be: from everywhere, as sources differ in size."""
    telling = dict.fromkeys(paths[:: max(len(paths) // _TELLING, 1)][:_TELLING])
    return [*telling, *(path for path in paths if path not in telling)]


def _need_room(out: Path, folder: Path, more: int, count: int) -> None:
    if more > (free := shutil.disk_usage(folder).free):
        raise DataError(
            f"{out}: {count:,} decoded pictures would take some {more / 1e9:.1f} GB more, and {free / 1e9:.1f} GB are "
            "free there (3 bytes a pixel).\nPack them onto another disk, scale them down, or train without a pack: "
            "the pictures' files are then decoded as they are needed."
        )
