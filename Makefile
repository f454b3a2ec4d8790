# Everything is set up by the first target that needs it; nothing has to be done before.
#
#   make demo         the whole line on a small site on this machine; stays up to be looked at
#   make test         the whole test suite
#   make soak         kills a crawl of 5,000 pictures, nights and archives fifty times each
#   make check        what must hold before a change is taken: see .ci/run
#   make bench        every benchmark, and BENCHMARKS.md; make bench-<name> for tests/bench/<name>.py
#
# On photographs of your own:  make demo PHOTOS=path/to/photos CLIP=path/to/clip
#
# torch comes from the package registry, whose build for Linux brings CUDA (3 GB). Where the network
# reaches PyTorch's own index, `UV_TORCH_BACKEND=cpu make setup` takes its much smaller CPU build;
# the hashes of the lock, which are the registry's, are then not checked.

PHOTOS ?=
CLIP ?=
# By file: what a module's fixtures took long to make is made once. (pytest 9.2 has no use for
# the groups of xdist 3.8.)
PYTEST = .venv/bin/pytest -n 2 --dist loadfile
SET_UP = .venv/.set-up
WHEEL = build/wheel

.PHONY: setup lock demo demo-weights test test-fast soak coverage lint types imports wheel-test check bench clean

setup: $(SET_UP)

$(SET_UP): requirements.lock pyproject.toml infra/setup.sh
	sh infra/setup.sh
	touch $@

.venv/bin/uv:
	sh infra/setup.sh uv

# Keeps the versions that the lock has; delete the file first to take the newest ones.
lock: .venv/bin/uv
	.venv/bin/uv pip compile pyproject.toml --group dev --all-extras --generate-hashes --universal --no-emit-index-url --no-annotate -o requirements.lock

demo: $(SET_UP)
	.venv/bin/cratedig demo $(if $(PHOTOS),--photos "$(PHOTOS)") $(if $(CLIP),--clip "$(CLIP)")

demo-weights: $(SET_UP)
	.venv/bin/python -m infra.demo.train_weights

test: $(SET_UP)
	$(PYTEST)

test-fast: $(SET_UP)
	$(PYTEST) -m "not slow"

# What the suite does a few times, done often enough to meet what happens seldom: half an hour, or
# more.
soak: $(SET_UP)
	CRATEDIG_SOAK_KILLS=50 CRATEDIG_SOAK_URLS=5000 .venv/bin/pytest tests/flows/test_killed.py \
		tests/flows/test_night_disturbed.py tests/flows/test_archive_disturbed.py

coverage: $(SET_UP)
	.venv/bin/coverage erase
	.venv/bin/coverage run -m pytest -n 2 --dist loadfile
	.venv/bin/coverage combine --quiet
	.venv/bin/coverage report

lint: $(SET_UP)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: $(SET_UP)
	.venv/bin/mypy

imports: $(SET_UP)
	.venv/bin/lint-imports

# What users get is the wheel, not this folder: it must bring all of its files and dependencies.
wheel-test: $(SET_UP)
	rm -rf $(WHEEL)
	.venv/bin/uv build --quiet --wheel --out-dir $(WHEEL)
	.venv/bin/uv venv --quiet --python .venv/bin/python $(WHEEL)/env
	.venv/bin/uv pip install --quiet --python $(WHEEL)/env/bin/python --constraint requirements.lock $(WHEEL)/*.whl
	cd $(WHEEL)/env && bin/cratedig --help

check: lint types imports test wheel-test

# Each installs the tools that it compares with into .bench/envs, and writes .bench/<name>.json.
bench-%: $(SET_UP)
	.venv/bin/python -m tests.bench.$(subst -,_,$*)

# One that fails is named in the table, and the others are run all the same.
bench: $(SET_UP)
	.venv/bin/python -m tests.bench.every

# The environment (.venv) and what the stacks store (.cratedig) stay.
clean:
	rm -rf build dist .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
