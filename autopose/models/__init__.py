"""What a genotype compiles to: operations, cells, networks and their cost."""
