"""Search, train, export and run human pose networks."""
