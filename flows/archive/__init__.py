"""Labelling archives of millions of pictures where they lie.

    listing -> plan -> shard (reading -> decoding -> model -> rows) -> manifest

Everything that is made lies below one place, the run's `--out`:

    plans/parts/<hash>.parquet               which pictures make up which shards; 64 shards a part
    plans/<plan>.json                        which parts are the plan, in order; written last
    questions/<question>.safetensors, .json  what is asked: a linear head over embeddings, and its name
    embeddings/<encoder>/<shard>.parquet     if asked for: facts and vectors of a shard
    labels/<question>/<shard>-<hash>.<format>    a part of the result: a row a picture
    labels/<question>/done/...               a note a shard that has its part, and which that is
    labels/<question>/unfinished/...         the vectors of shards that have something to be tried again
    labels/<question>/manifests/<n>.json     which parts count; the highest number is the result

A shard's id is the hash of what it is made of (names, ETags, ranges), and a part's key has the hash
of its bytes: whoever writes it, however often, writes the same rows. What failed for a reason that
may pass (no answer in time, a connection that broke, a server's 5xx) is tried again by the next run:
its rows come in a part that takes the old one's place in the next manifest.
"""
