"""The project.toml that `cratedig init` writes: every key explained where it stands."""

from __future__ import annotations

EXAMPLE_PROJECT = """\
# A cratedig project: what to look for, where, and how often.
# Keys and addresses of the object store do not belong here: they come from CRATEDIG_ variables,
# or from the local stack that `cratedig up` starts.

name = "records"
# Sites see this in the User-Agent, so that they can write to you. Crawling asks for it.
contact = "you@example.org"

# ---- Labels: each is a yes/no question of its own; a picture may have several, or none. ----

[[labels]]
name = "turntable"
# What CLIP is asked. Left out, it is "a photo of a turntable".
prompts = ["a photo of a turntable", "a record player with its tonearm"]
# Other names of it, each put into several sentences; may be left out.
synonyms = ["gramophone"]
# What a picture without the label looks like; may be left out.
against = ["a photo of a room", "a photo of a loudspeaker"]

[[labels]]
name = "vinyl"
prompts = ["a photo of a vinyl record", "a twelve inch record on a platter"]

# ---- Sources: where pictures are found. ----

[[sources]]
name = "example-shop"
start = ["https://example.org/records/"]
# Pages are followed within the hosts of `start`; regular expressions narrow that down.
allow = ["/records/"]
deny = ["[?&]sort="]
max_pages = 200
# "auto" opens a page in a browser when its HTML holds no picture; "always" and "never".
browser = "never"
# When to look for what is new: minute, hour, day of month, month, day of week (UTC).
schedule = "0 3 * * *"

# [[sources]]
# name = "hand-picked"
# kind = "urls"                 # `start` lists pictures themselves
# start = ["https://example.org/pictures/1.jpg"]

# [[sources]]
# name = "from-a-table"
# kind = "urls"
# table = "pictures.parquet"    # or .csv, .tsv, .jsonl, .txt, gzipped too; or s3://bucket/key
# url_column = "image_url"      # only when the column's name does not say it

# ---- Encoder: which CLIP describes the pictures. ----

[encoder]
model = "ViT-B-32"
pretrained = "laion2b_s34b_b79k"   # downloaded by open_clip when it is first used
backend = "auto"                   # measured once on your own pictures; "torch" is the reference
# checkpoint = "weights/mine"      # instead: a folder with open_clip_config.json and safetensors

# ---- Limits: how politely and how much is fetched. These are the defaults. ----

[limits]
concurrency_per_host = 4
delay_s = 0.25
timeout_s = 30
max_bytes = 30_000_000
max_pixels = 100_000_000
min_side = 64                      # smaller pictures are rejected

# ---- When the rest is done. Left out: only when you ask for it. ----

[prelabel]
schedule = "30 3 * * *"

[review]
again = 0.03                       # share of decided pictures that come again, blind, to measure agreement

[train]
# Thresholds are chosen for this aim: "f1", "precision >= 0.95", "recall >= 0.9", or "costs 5:1"
# (a false positive costs five times what a false negative does).
aim = "f1"
folds = 5
repeats = 3
seed = 0
# A new model replaces the old one if its macro F1 on the same pictures is higher by more than
# promote_mean, and the lower end of that difference's interval lies above promote_lowest.
promote_lowest = -0.01
promote_mean = 0.0
train_after_decisions = 50         # looked at every half hour
# schedule = "0 5 * * 1"
# "last_blocks" or "lora" let the encoder's image side learn, too: slow without a GPU.
fine_tune = "off"

[predict]
schedule = "0 4 * * *"
new_model = "all"                  # a new model labels everything again; "new": only what is new
queue = 200                        # pictures a label that are put up for review after each night
spot_check = 0                     # of them, drawn by lot, so that precision is measured over time

# ---- Archives: `cratedig label s3://bucket/prefix --out ...`. ----

# [archive]
# runner = "threads"               # of the flow label-archive; or "ray", on the cluster of RAY_ADDRESS
# shards_at_once = 2               # on one machine
# gpus_per_shard = 1               # on a Ray cluster with GPUs
"""
"""What `cratedig init` writes: commented, and valid as it stands."""
