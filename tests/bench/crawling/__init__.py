"""The parts of `tests.bench.crawl` that run in processes of their own."""
