"""The dataset for other tools, and what was decided in them back.

`flows.exchange.formats` names the formats. Each has a module with `write`, which takes pictures as
they stream out of the catalogue, and `read`, which streams decisions (`flows.review.Answered`) out
of the tool's files. Memory does not grow with the dataset.
"""
