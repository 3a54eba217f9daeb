# Two commands do all the set-up: `make demo` and `make test`.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
BUILD := build/venv
BUILD_STAMP := $(BUILD)/.installed
IMAGE = wegent-executor:latest
BASE_IMAGE =

.DEFAULT_GOAL := help
.PHONY: help demo test quick check style format bench binary image docs requirements clean

help:  ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 16

# What is typed reaches the demo through the environment as it was typed: neither make nor a shell
# reads it.
ifeq ($(origin PROMPT),command line)
override PROMPT := $(value PROMPT)
endif
ifeq ($(origin REPO),command line)
override REPO := $(value REPO)
endif
export PROMPT REPO

demo: $(STAMP)  ## Run a coding task end to end (PROMPT="…" REPO=<path or URL> for one's own)
	@$(BIN)/python scripts/demo.py

# Either half waits a lot, and leaves a processor to the other meanwhile.
test:  ## Set up what is missing, then check and run all tests
	@scripts/setup_machine.sh --install >/dev/null
	@$(MAKE) --no-print-directory style
	@exec $(BIN)/python scripts/side_by_side.py \
	  "exec $(BIN)/python -m pytest --share=systems" \
	  "$(BIN)/mypy && exec $(BIN)/python -m pytest --share=parts"

quick: $(STAMP)  ## Unit and contract tests
	$(BIN)/python -m pytest -q tests/unit tests/contract

check: style  ## Format, lint, types, import contracts
	$(BIN)/mypy

style: $(STAMP)
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/lint-imports

format: $(STAMP)  ## Put the code into its format
	$(BIN)/ruff check --quiet --fix .
	$(BIN)/ruff format --quiet .

bench: $(STAMP)  ## Measure; the results are described in docs/benchmarks.md
	@for file in bench/[a-z]*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

binary: $(BUILD_STAMP)  ## Build the executor as one file into dist (OPTIONS="--onedir --with-claude")
	@$(BUILD)/bin/python scripts/build_local.py $(OPTIONS)

image: $(BUILD_STAMP)  ## Build the image of docker mode (IMAGE=, BASE_IMAGE=, OPTIONS= for docker build)
	@$(BUILD)/bin/python scripts/build_image.py --image "$(IMAGE)" --base-image "$(BASE_IMAGE)" -- $(OPTIONS)

docs: $(STAMP)  ## Write docs/commands, docs/exit-status.md and docs/settings.md from the program itself
	@$(BIN)/python -m scripts.build_command_docs
	@$(BIN)/python -m scripts.build_settings_docs

requirements: $(STAMP)  ## Lock the versions of all dependencies anew
	$(PIP) install uv
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --annotation-style line \
	  --python-version 3.11 --extra manager --extra agno --extra storage --group dev pyproject.toml -o requirements/dev.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --annotation-style line \
	  --python-version 3.11 --group build --constraint requirements/dev.txt pyproject.toml \
	  -o requirements/build.txt
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-header --annotation-style line \
	  --python-version 3.11 --constraint requirements/dev.txt pyproject.toml \
	  -o executor/requirements.txt

clean:  ## Remove what the other commands have made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .demo dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(STAMP): pyproject.toml requirements/dev.txt
	@python=$$(scripts/setup_machine.sh) && \
	  { $(BIN)/python -c 'import pip' 2>/dev/null || "$$python" -m venv --clear $(VENV); }
	@echo "Installing the locked requirements into $(VENV)"
	@$(PIP) --quiet install --require-hashes -r requirements/dev.txt
	@$(PIP) install --no-index --no-deps --no-build-isolation --editable .
	@touch $@

# What the binary is built with, and nothing else: what is installed there can get into it.
$(BUILD_STAMP): requirements/build.txt
	@python=$$(scripts/setup_machine.sh) && "$$python" -m venv --clear $(BUILD)
	@echo "Installing the locked requirements of the binary into $(BUILD)"
	@$(BUILD)/bin/python -m pip --disable-pip-version-check --quiet install --require-hashes \
	  -r requirements/build.txt
	@touch $@
