# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN ?= runs/quickstart

.PHONY: demo test faults load check gpu-check audit report docs format clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

demo: $(VENV)/installed  ## install, run the quickstart sweep, end with the report's path
	@$(BIN)/python -m sweep.run $(if $(wildcard runs/quickstart/journal.jsonl),--name quickstart --resume)

test: $(VENV)/installed  ## install and pass the tests
	$(BIN)/python -m pytest --numprocesses 2 --no-loadscope-reorder

faults: $(VENV)/installed  ## kill sweeps again and again, compare what --resume makes of them
	$(BIN)/python -m tests.faults

load: $(VENV)/installed  ## plan, resume and report 10,000 trials; run 1,000 and watch the memory
	$(BIN)/python tests/load/plan_many.py
	$(BIN)/python tests/load/resume_many.py
	$(BIN)/python tests/load/run_many.py

check: $(VENV)/installed  ## lint, formatting, types, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

gpu-check: $(VENV)/installed  ## check and measure the engines on this machine's GPU (or, small, on its CPU)
	$(BIN)/python -m benchmarks.gpu

audit: $(VENV)/installed  ## look for known vulnerabilities in what is installed
	@test -x $(VENV)/audit/bin/pip-audit || { $(PYTHON) -m venv $(VENV)/audit && \
		$(VENV)/audit/bin/pip install --quiet --disable-pip-version-check pip-audit; } || true
	@$(BIN)/python tools/audit.py $(VENV)/audit/bin/pip-audit

report: $(VENV)/installed  ## write the report of RUN again (default: runs/quickstart)
	@$(BIN)/python -m analysis.report $(RUN)

docs: $(VENV)/installed  ## write docs/configuration.md and the JSON schema anew, from the schema in the code
	@$(BIN)/python -m tools.reference

format: $(VENV)/installed  ## put the code into its standard form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

SSHD := /usr/sbin/sshd

.PHONY: cluster-test cluster-place cluster-tools
cluster-test: cluster-place $(VENV)/installed cluster-tools  ## bring clusters up and down in namespaces of their own (root, Linux)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,cluster-test]"
	SWEEP_CLUSTER_TEST=1 unshare --net --mount --pid --fork --kill-child --mount-proc \
		$(BIN)/python -m pytest -s -p no:cacheprovider tests/live_clusters

cluster-place:
	@$(PYTHON) tests/live_clusters/places.py

cluster-tools:
	@missing=; for tool in ip rsync ssh $(SSHD); do \
		command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	test -z "$$missing" || { echo "installing what is missing:$$missing"; apt-get update -qq && \
		apt-get install -y -qq --no-install-recommends iproute2 openssh-client openssh-server rsync; }

clean:  ## remove what the other targets made, except runs
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache *.egg-info
