"""Loss, schedule and the flat training loop."""
