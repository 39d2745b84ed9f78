"""States survive damage: the one before is used."""

from pathlib import Path

import pytest
import torch

from autopose.errors import ModelError, UsageError
from autopose.search import state as search
from autopose.training.resumable import NEWEST, PREVIOUS, Progress, is_resumable, load_resumable, save_resumable


def _save(folder: Path, value: float, step: int) -> None:
    save_resumable(
        folder, {"w": torch.full((3, 4), value), "n": torch.tensor(step)}, Progress(step=step, identity="id")
    )


def test_roundtrip(tmp_path: Path) -> None:
    progress = search.Progress(
        epoch=2, step=7, sums={"loss": 0.1 + 0.2}, rewards=[0.5], memory={"a": [1]}, identity="id"
    )
    tensors = {"a": torch.randn(3, 2).T, "b": torch.tensor(2.5), "c": torch.arange(4, dtype=torch.uint8)}
    save_resumable(tmp_path, tensors, progress)
    found, back = load_resumable(tmp_path, search.Progress, "id")
    assert back == progress
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("damage", ["half", "flipped", "renamed", "empty"])
def test_a_damaged_state_is_noticed_and_the_one_before_used(tmp_path: Path, damage: str) -> None:
    _save(tmp_path, 1.0, 1)
    _save(tmp_path, 2.0, 2)
    newest = tmp_path / NEWEST
    content = bytearray(newest.read_bytes())
    if damage == "half":
        content = content[: len(content) // 2]
    elif damage == "flipped":
        content[-2] ^= 1
    elif damage == "renamed":
        content = content.replace(b'"w"', b'"v"')
    else:
        content = bytearray()
    newest.write_bytes(bytes(content))
    tensors, progress = load_resumable(tmp_path, Progress, "id")
    assert progress.step == 1
    assert float(tensors["w"][0, 0]) == 1.0


def test_a_kill_between_the_two_renames_leaves_the_previous(tmp_path: Path) -> None:
    _save(tmp_path, 1.0, 1)
    (tmp_path / NEWEST).rename(tmp_path / PREVIOUS)
    assert is_resumable(tmp_path)
    assert load_resumable(tmp_path, Progress, "id")[1].step == 1


def test_refuses_nothing_ruins_and_strangers(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no state to resume"):
        load_resumable(tmp_path, Progress, "id")
    _save(tmp_path, 1.0, 1)
    with pytest.raises(ModelError, match="another configuration"):
        load_resumable(tmp_path, Progress, "other")
    (tmp_path / NEWEST).write_bytes(b"ruin")
    with pytest.raises(ModelError, match="no state can be resumed"):
        load_resumable(tmp_path, Progress, "id")


@pytest.mark.parametrize(
    ("now", "said"),
    [
        ('f {"skeleton": "own.json", "train": {"lr": 0.1, "init": null}} a', "(train.lr was 1.0, is 0.1)"),
        ('g {"skeleton": "own.json", "train": {"lr": 1.0, "init": null}} a', "(the genotype was f, is g)"),
        ('f {"skeleton": "own.json", "train": {"lr": 1.0, "init": null}} b', "(the joints in own.json have changed)"),
        ('f {"skeleton": "coco17", "train": {"lr": 1.0, "init": "x"}}', '"coco17"; train.init was not set, is "x")'),
        ('f {"a": 1, "b": 2, "c": 3, "d": 4, "e": 5}', "c was not set, is 3; 2 more)"),  # after skeleton, train, a, b
        ("other", "configuration. Resume"),
    ],
)
def test_what_is_resumed_otherwise_is_named(tmp_path: Path, now: str, said: str) -> None:
    identity = 'f {"skeleton": "own.json", "train": {"lr": 1.0, "init": null}} a'
    save_resumable(tmp_path, {"w": torch.zeros(1)}, Progress(1, 0.0, identity))
    with pytest.raises(ModelError) as caught:
        load_resumable(tmp_path, Progress, now)
    assert said in str(caught.value), str(caught.value)


def test_without_hard_links_the_state_before_is_kept_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    for step in (1, 2):
        _save(tmp_path, float(step), step)
    assert load_resumable(tmp_path, Progress, "id")[1].step == 2
    (tmp_path / NEWEST).unlink()
    assert load_resumable(tmp_path, Progress, "id")[1].step == 1


def test_after_a_fall_back_two_whole_states_are_kept_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2):
        _save(tmp_path, float(step), step)
    (tmp_path / NEWEST).write_bytes(b"ruin")
    for process in ("1", "0"):
        assert (tmp_path / NEWEST).exists()  # only the first process tidies up: the others are reading
        monkeypatch.setenv("RANK", process)
        assert load_resumable(tmp_path, Progress, "id")[1].step == 1
    _save(tmp_path, 3.0, 3)
    (tmp_path / NEWEST).unlink()
    assert load_resumable(tmp_path, Progress, "id")[1].step == 1  # not the damaged one


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux's list of mapped files")
def test_a_loaded_state_lets_go_of_its_file(tmp_path: Path) -> None:
    """Windows cannot replace a file that is mapped, which the next save does."""
    _save(tmp_path, 1.0, 1)
    tensors, _ = load_resumable(tmp_path, Progress, "id")
    assert float(tensors["w"][0, 0]) == 1
    assert str(tmp_path) not in Path("/proc/self/maps").read_text()


def test_crops_may_lie_elsewhere(tmp_path: Path) -> None:
    """What they are is known by their checksum; that crops were trained on, and not photographs, still counts."""

    def identity(crops: str) -> str:
        return f'id {{"data": {{"crops": {crops}, "pack": null}}}}'

    save_resumable(tmp_path, {"w": torch.ones(1)}, Progress(step=3, identity=identity('"here"')))
    assert load_resumable(tmp_path, Progress, identity('"there"'))[1].step == 3
    with pytest.raises(ModelError, match=r'data.crops was "here", is not set'):
        load_resumable(tmp_path, Progress, identity("null"))
