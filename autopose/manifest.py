"""What a runtime must know about an exported model, stored inside the artefact itself.

In ONNX files it is the ``metadata_props`` entry ``autopose.manifest``; beside a TensorRT engine it is in the JSON
sidecar.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from autopose.errors import DataError, ModelError
from autopose.heatmap import Codec
from autopose.skeleton import Skeleton
from autopose.skeleton_record import skeleton_from, stored_skeleton

#: Key of the manifest in ONNX metadata.
METADATA_KEY = "autopose.manifest"


#: What a model does: joints of a person in a crop, or boxes of persons in an image.
Task = Literal["pose", "detector"]
#: What a model for each is called.
TASK_NAMES: dict[Task, str] = {"pose": "pose model", "detector": "detector"}
#: How often a detector sees its input: once; also at half the size; both, mirrored as well.
Looks = Literal[1, 2, 4]


class Manifest(BaseModel):
    """The contract between an exported model and any runtime.

    Attributes:
        task: ``pose`` (crops to keypoints) or ``detector`` (letterboxed images to boxes).
        io: ``uint8``: input ``images`` uint8 ``(N, H, W, 3)`` BGR 0-255, normalisation in the graph. ``plain``: input
            ``images`` float32 ``(N, 3, H, W)`` RGB, already normalised by ``mean`` and ``std`` (of 0-1 values).
        outputs: names of the graph's outputs in order. Pose: ``keypoints`` ``(N, K, 3)`` x, y in crop pixels and score
            if ``decode``, else ``heatmaps`` ``(N, K, h, w)``. Detector: ``boxes`` ``(N, D, 4)`` xyxy in input pixels,
            ``scores`` ``(N, D)`` in falling order; D is 100 per size at which it sees the input (``input_scales``).
        flip: whether the graph averages over the mirrored crop.
        decode: whether the graph ends in keypoints.
        looks: 2: a detector that sees its input twice, as it is for small persons, and at half its size for all. A
            person may then have two boxes, until those that overlap a better one are dropped. 4: and each time the
            mirror image as well, whose maps are averaged with the others.
        codec: frames and sub-cell refinement of a pose model; for a detector ``codec.input_size_wh`` alone counts.
        skeleton: joints of a pose model: the name of a known skeleton, or all of another
            (:func:`autopose.skeleton_record.skeleton_record`).
        precision: type of the convolutions.
        fingerprint: of the genotype.
        autopose_version: that exported it.
        name: of the model.
        box_padding: by how much boxes are enlarged before cropping.
        source_sha256: of the weights that it was exported from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[1] = 1
    task: Task = "pose"
    name: str = "unnamed"
    io: Literal["uint8", "plain"] = "uint8"
    outputs: tuple[str, ...] = ("keypoints",)
    flip: bool = True
    decode: bool = True
    looks: Looks = 1
    codec: Codec = Codec()
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    skeleton: str | dict[str, Any] = "coco17"
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    fingerprint: str = ""
    autopose_version: str = ""
    box_padding: float = Field(1.25, ge=1)
    source_sha256: str = ""

    @field_validator("skeleton")
    @classmethod
    def _describes_joints(cls, found: str | dict[str, Any]) -> str | dict[str, Any]:
        if isinstance(found, dict):
            try:
                skeleton_from(found, "skeleton")
            except DataError as error:
                raise ValueError(str(error)) from None
        return found

    @property
    def input_scales(self) -> int:
        """At how many sizes a detector sees its input."""
        return min(self.looks, 2)

    def to_json(self) -> str:
        """Return the text that is stored in the artefact."""
        return self.model_dump_json()

    @staticmethod
    def from_json(text: str | None, where: str) -> "Manifest":
        """Parse the text stored in an artefact.

        Raises:
            ModelError: there is none (not an autopose model) or it is of another version.
        """
        if not text:
            raise ModelError(
                f"{where}: carries no autopose manifest, so its input size, colours and joints are unknown.\n"
                "Give a model made by 'autopose export', or the name of a bundled one ('autopose models')."
            )
        try:
            return Manifest.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise ModelError(
                f"{where}: its manifest cannot be used: field '{field}': {first['msg']}.\n"
                "It was made by another version: export it again with 'autopose export'."
            ) from None

    @property
    def keypoint_skeleton(self) -> Skeleton:
        """Return the skeleton of a pose model."""
        return stored_skeleton(self.skeleton, f"The manifest of {self.name!r}")


def of_another_task(model: object, found: Task, expected: Task) -> ModelError:
    """Return the error that tells which task a model is for."""
    return ModelError(f"{model}: is a {found} model; expected a {TASK_NAMES[expected]}.")
