"""What the benchmark of the studio works on."""
