"""Look over a data folder before a long run: what is there, what is damaged, what is missing and where to get it."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autopose.data.annotations import OwnFormat, label_tool, own_format
from autopose.data.coco import person_from_record
from autopose.data.coco_file import (
    CocoFile,
    box_numbers,
    box_score,
    first_keypoints,
    read_coco,
    read_json,
)
from autopose.data.deeplabcut import is_deeplabcut
from autopose.data.drafts import is_results
from autopose.data.images import DiskReader, picture_exists
from autopose.data.labelme import is_labelme
from autopose.data.skeletons import skeleton_of
from autopose.data.yolo import is_labels_folder
from autopose.data.yolo_set import is_pose_yaml
from autopose.errors import AutoposeError, DataError
from autopose.poses import Person
from autopose.skeleton import COCO17, Skeleton

#: How many examples of a kind of fault a report keeps.
EXAMPLES = 5
#: COCO's other annotation files, large and without keypoints.
_NOT_POSES = ("captions_", "instances_", "panoptic_", "stuff_", "image_info_")
#: Files beside ``config.toml`` by which a folder is a run's.
_OF_RUNS = {"log.jsonl", "genotype.json", "summary.json"}


@dataclass
class SetReport:
    """One annotation file.

    Attributes:
        annotations: the file.
        kind: ``COCO``, ``MPII``, ``LSP``, ``OCHuman``, ``YOLO-pose``, ``labelme``, ``DeepLabCut`` or ``detections``.
        skeleton: name of its joints, if it has any.
        joints: of a skeleton that autopose does not know; those that change places in a mirror image joined by ``/``.
        images: pictures that it lists.
        persons: persons with labelled joints (detections: boxes).
        faults: kind of fault -> how often.
        examples: kind of fault -> the first few sentences about it.
    """

    annotations: Path
    kind: str
    skeleton: str = ""
    joints: tuple[str, ...] = ()
    images: int = 0
    persons: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, fault: str, sentence: str) -> None:
        """Note a fault."""
        self.faults[fault] += 1
        if len(self.examples.setdefault(fault, [])) < EXAMPLES:
            self.examples[fault].append(sentence)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "annotations": str(self.annotations),
            "kind": self.kind,
            "skeleton": self.skeleton,
            "joints": list(self.joints),
            "images": self.images,
            "persons": self.persons,
            "faults": dict(self.faults),
            "examples": self.examples,
        }


@dataclass(frozen=True)
class Download:
    """A published set that the papers use.

    Attributes:
        name: what it is.
        files: annotation files by which it is recognised, any of them.
        steps: what to fetch and where to unpack it, below the checked folder.
        terms: under which it comes.
    """

    name: str
    files: tuple[str, ...]
    steps: tuple[str, ...]
    terms: str


PUBLISHED = (
    Download(
        "COCO 2017 keypoints, training (118,287 images, 18 GB)",
        ("person_keypoints_train2017.json",),
        (
            "http://images.cocodataset.org/annotations/annotations_trainval2017.zip -> {root}/coco/annotations/",
            "http://images.cocodataset.org/zips/train2017.zip -> {root}/coco/train2017/",
        ),
        "annotations CC BY 4.0, photographs under Flickr's terms",
    ),
    Download(
        "COCO 2017 keypoints, validation (5,000 images, 1 GB)",
        ("person_keypoints_val2017.json",),
        (
            "http://images.cocodataset.org/annotations/annotations_trainval2017.zip -> {root}/coco/annotations/",
            "http://images.cocodataset.org/zips/val2017.zip -> {root}/coco/val2017/",
        ),
        "annotations CC BY 4.0, photographs under Flickr's terms",
    ),
    Download(
        "person detections on COCO val2017 (the papers' boxes, AP 56.4)",
        ("COCO_val2017_detections_AP_H_56_person.json",),
        ("README of github.com/leoxiaobin/deep-high-resolution-net.pytorch -> {root}/coco/person_detection_results/",),
        "distributed by HRNet's authors",
    ),
    Download(
        "MPII Human Pose (24,984 images, 12 GB)",
        ("mpii_human_pose_v1_u12_1.mat", "train.json", "trainval.json", "valid.json"),
        (
            "http://human-pose.mpi-inf.mpg.de: mpii_human_pose_v1.tar.gz -> {root}/mpii/images/",
            "http://human-pose.mpi-inf.mpg.de: mpii_human_pose_v1_u12_2.zip -> {root}/mpii/",
            "README of github.com/leoxiaobin/deep-high-resolution-net.pytorch (MPII) -> {root}/mpii/annot/train.json",
        ),
        "Simplified BSD for the annotations, photographs for research",
    ),
)


def check_folder(
    root: Path,
    *,
    images: Path | None = None,
    decode: bool = True,
    on_start: Callable[[int], None] = lambda _: None,
    on_image: Callable[[], None] = lambda: None,
) -> tuple[list[SetReport], list[Download]]:
    """Check every annotation file below a folder and the pictures that it lists.

    Args:
        root: the folder, or one annotation file. The project's own run folders below it are left out.
        images: folder that the files' names of pictures are relative to; None: found by the first pictures.
        decode: read and decode every picture; False: only see whether it is there.
        on_start: called with the number of pictures of each file as soon as that is known, for progress.
        on_image: called after each picture.

    Returns:
        A report of each annotation file, and, of a folder, the published sets that are not there.

    Raises:
        DataError: there is no such folder or file.
    """
    root, look = Path(root), _Look(images, decode, on_start, on_image)
    if root.is_file() or is_labels_folder(root):
        alone = _check(root, look)
        return ([] if alone is None else [alone]), []
    if not root.is_dir():
        raise DataError(f"No folder or file {str(root)!r} to check.")
    checked = (_check(path, look) for path in _candidates(root))
    reports = [report for report in checked if report is not None]
    kinds = {(report.annotations.name, report.kind) for report in reports}

    def present(published: Download) -> bool:
        kind = (
            "MPII" if published.name.startswith("MPII") else "detections" if "detections" in published.name else "COCO"
        )
        return any((name, kind) in kinds for name in published.files)

    return reports, [published for published in PUBLISHED if not present(published)]


def _candidates(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        if Path(folder) != root and "config.toml" in files and not _OF_RUNS.isdisjoint(files):
            folders.clear()  # a run's tune split and drawn figures are no data sets
            continue
        folders.sort()
        labels = False
        for path in (Path(folder) / name for name in sorted(files) if not name.startswith((".", *_NOT_POSES))):
            if is_labelme(path):  # a file for each picture: the folder is the set
                if not labels:
                    yield Path(folder)
                labels = True
            elif is_results(path):  # of 'infer', perhaps of the pictures beside them: no labels yet
                continue
            elif path.suffix.lower() in (".json", ".mat") or is_deeplabcut(path) or is_pose_yaml(path):
                yield path


@dataclass(frozen=True)
class _Look:
    """Where pictures are, whether they are decoded, and who is told of it: see :func:`check_folder`."""

    images: Path | None
    decode: bool
    on_start: Callable[[int], None]
    on_image: Callable[[], None]

    def at(self, pictures: Iterable[tuple[Path, tuple[int, int] | None]], report: SetReport) -> None:
        """Check pictures, each with the size that it is annotated as; None: with none."""
        for path, size_wh in pictures:
            _check_picture(report, path, size_wh, self.decode)
            self.on_image()


def _check(path: Path, look: _Look) -> SetReport | None:
    """Return the report of an annotation file, or None if it is none."""
    tool = label_tool(path)
    try:
        if tool is not None:
            return _check_coco(SetReport(path, tool.name), tool.read(path, images=look.images), look)
        if (own := own_format(path)) is not None:
            return _check_persons(path, own, look)
        content = read_json(path, "annotation file")
    except AutoposeError as error:
        kind = "unknown" if tool is None else tool.name
        report = SetReport(path, "MPII" if path.suffix.lower() == ".mat" else kind)
        report.add("unreadable", str(error))
        return report
    if isinstance(content, dict) and {"images", "annotations"} <= content.keys():
        report = SetReport(path, "COCO")
        try:
            file = read_coco(path, images=look.images, content=content)
        except DataError as error:
            report.add("unreadable", str(error))
            return report
        return _check_coco(report, file, look)
    if (
        isinstance(content, list)
        and content
        and isinstance(content[0], dict)
        and {"bbox", "score"} <= content[0].keys()
    ):
        return SetReport(
            path,
            "detections",
            images=len({str(r.get("image_id")) for r in content if isinstance(r, dict)}),
            persons=len(content),
        )
    return None


def _check_persons(path: Path, own: OwnFormat, look: _Look) -> SetReport | None:
    if own.name == "MPII" and path.suffix.lower() == ".mat" and not path.name.startswith("mpii_human_pose"):
        return None  # some other MATLAB file, such as gt_valid.mat
    report = SetReport(path, own.name)
    try:
        persons = own.load(path, images=look.images)
    except DataError as error:
        report.add("unreadable", str(error))
        return report
    if not persons:
        report.add("nobody", f"{path}: holds no person with joints.")
        return report
    pictures = dict.fromkeys(person.image_path for person in persons)
    report.skeleton, report.persons, report.images = persons[0].skeleton.name, len(persons), len(pictures)
    look.on_start(len(pictures))
    look.at(((picture, None) for picture in pictures), report)
    return report


def _check_coco(report: SetReport, file: CocoFile, look: _Look) -> SetReport:
    report.images = len(file.images)
    look.on_start(report.images)
    labelled = bool(first_keypoints(file.annotations))
    skeleton: Skeleton | None = None
    try:
        skeleton = skeleton_of(file)
        report.skeleton = skeleton.name
        if not skeleton.is_known:
            report.joints = _mirrored(skeleton)
    except DataError as error:
        if labelled:  # boxes alone have no joints
            report.add("skeleton", str(error))
    if skeleton is not None or not labelled:
        _check_records(report, file, skeleton or COCO17)
    sizes = ((file.image_path(number), (image["width"], image["height"])) for number, image in file.images.items())
    look.at(sizes, report)
    return report


def _mirrored(skeleton: Skeleton) -> tuple[str, ...]:
    """Return the joints, each with its counterpart."""
    pairs = [dict.fromkeys((place, int(other))) for place, other in enumerate(skeleton.flip_order) if place <= other]
    return tuple("/".join(skeleton.joints[place] for place in pair) for pair in pairs)


def _check_records(report: SetReport, file: CocoFile, skeleton: Skeleton) -> None:
    elsewhere = 0
    for number, record in enumerate(file.annotations):
        where = f"{file.path}: annotations[{number}]"
        try:
            if (person := person_from_record(file, number, skeleton=skeleton)) is not None:
                report.persons += 1
                elsewhere += _joints_elsewhere(person)
            elif record.get("category_id", 1) == 1 and not record.get("keypoints"):  # what detectors alone learn from
                box_numbers(record["bbox"], where)
                box_score(record, where)
        except DataError as error:
            report.add("annotation", str(error))
    if elsewhere > report.persons / 2:
        report.add(
            "joints outside",
            f"{file.path}: of {elsewhere} of {report.persons} persons no labelled joint lies in the box. Expected "
            "pixels for both, not shares of the picture's sides, and x, y, width, height for boxes.",
        )
    others = [record for record in file.annotations if record.get("category_id", 1) != 1 and record.get("keypoints")]
    if others and not report.persons and not report.faults:
        report.add(
            "nobody",
            f"{file.path}: none of its {len(file.annotations)} records is a person with labelled joints, but "
            f"{len(others)} of another category have joints. Persons are those with category_id "
            f"{file.person_category}, as a number.",
        )


def _joints_elsewhere(person: Person) -> bool:
    """Tell whether no labelled joint lies in the box: in few records a slip or a neighbour, in most another unit."""
    joints = person.keypoints[person.weight > 0]
    return not ((joints >= person.box_xyxy[:2] - 1) & (joints <= person.box_xyxy[2:] + 1)).all(1).any()


def _check_picture(report: SetReport, path: Path, size_wh: tuple[int, int] | None, decode: bool) -> None:
    if not picture_exists(path):
        report.add("missing image", str(path))
        return
    if not decode:
        return
    try:
        height, width = DiskReader().read(path).shape[:2]
    except AutoposeError as error:
        report.add("broken image", str(error))
        return
    if size_wh is not None and (width, height) != size_wh:
        report.add("image size", f"{path}: is {width}x{height}, annotated as {size_wh[0]}x{size_wh[1]}.")
