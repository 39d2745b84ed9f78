"""From a search space to a genotype: supernets, controller, bi-level loop."""
