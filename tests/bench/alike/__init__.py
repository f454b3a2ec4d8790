"""The parts of `tests.bench.dedupe`: pictures and their copies, the peers, quality, and the index."""
