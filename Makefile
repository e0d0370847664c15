# Two commands do everything: `make demo` shows it, `make test` proves it. Both make what they need first.
PYTHON = .venv/bin/python

.PHONY: help demo test test-thorough bench image-check check format chart docs readme-session parts venv clean

help:
	@echo "make demo           show the operator on a control plane and a registry of its own (KEEP=1 leaves them up,"
	@echo "                    DEMO=openshift shows it on OpenShift's image streams, DEMO=space how space comes back)"
	@echo "make test           run the tests on real parts"
	@echo "make test-thorough  run the slow ones too, and 10,000 examples of each property"
	@echo "make bench          measure reading and pruning against a bare client and peers (BENCH=\"--only cold\" a part"
	@echo "                    of it; the whole takes about an hour)"
	@echo "make image-check    build the image without a Docker daemon, look into it and run it (as root; 5 minutes)"
	@echo "make check          lint, types, direction of the imports"
	@echo "make chart          bring the Helm chart's copies of the manifests up to date"
	@echo "make docs           bring what docs/cli.md says of the commands up to date"
	@echo "make readme-session show the demo, and put its session at the command line into README.md"

venv:
	@sh tests/support/bootstrap.sh

parts: venv
	@$(PYTHON) -m tests.support.binaries

demo: parts
	@$(PYTHON) -m tests.demo

test: parts
	$(PYTHON) -m pytest -m "not thorough"

test-thorough: parts
	$(PYTHON) -m pytest --hypothesis-profile=thorough

bench: parts
	@$(PYTHON) -m benchmarks.speed $(BENCH)
ifndef BENCH
	@$(PYTHON) -m benchmarks.plan_in_memory
	@$(PYTHON) -m benchmarks.image_streams
	@$(PYTHON) -m benchmarks.page
endif

image-check: parts
	@$(PYTHON) -m tests.image

check: venv
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache

format: venv
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

# The Helm chart holds copies of some manifests (tests/support/chart.py says why).
chart: venv
	$(PYTHON) -m tests.support.chart

# What docs/cli.md says of each command is the command's own help.
docs: venv
	$(PYTHON) -m tests.support.cli_docs

readme-session: parts
	@DEMO=distribution $(PYTHON) -m tests.demo --readme

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis test-logs build dist
