"""The curve of a run that was stopped and resumed."""

from pathlib import Path

import pytest

from autopose.training.log import summary_writer


def test_a_resumed_run_has_no_step_twice(tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for last, steps in ((0, (50, 100, 150)), (100, (150, 200))):  # killed after 150, saved at 100
        writer = summary_writer(tmp_path, last)
        for step in steps:
            writer.add_scalar("loss", step, step)
        writer.close()
    events = reader.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("loss")] == [50, 100, 150, 200]
