# Every target works as the first command on a machine with Python >= 3.11 and nothing else.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python; do \
	if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	then echo $$p; break; fi; done)
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help setup demo test check bench clean
help:
	@echo "make demo    raw file -> LoRA -> verdict -> report, offline (<= 120 s after installation)"
	@echo "make test    all tests with branch coverage"
	@echo "make check   ruff, mypy strict, pyright strict, import-linter"
	@echo "make bench   every benchmark, ours and the peer in turn"
	@echo "make setup   .venv with everything the targets above need"
	@echo "make clean   remove .venv and caches"

.venv/created:
	@test -n "$(PYTHON)" || { echo "setup: no Python >= 3.11 was found; expected one named \
	python3. Install it, or run: make setup PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -m venv .venv >/dev/null 2>&1 || { rm -rf .venv; \
	  $(PYTHON) -m virtualenv .venv >/dev/null 2>&1 || virtualenv -p $(PYTHON) .venv >/dev/null 2>&1; } \
	|| { rm -rf .venv; echo "setup: $(PYTHON) has neither the venv module nor virtualenv; \
	expected one of them. Run: $(PYTHON) -m pip install virtualenv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	@touch $@

# torch goes first and alone, so that the pinned build is chosen before anything asks for one.
.venv/runtime: .venv/created pyproject.toml constraints.txt
	@echo "setup: installing (the first time downloads torch; see the README for sizes)"
	@$(INSTALL) torch
	@$(INSTALL) -e ".[local,offline-tokens]"
	@touch $@

.venv/development: .venv/runtime
	@$(INSTALL) -e ".[local,offline-tokens,plots,openai,anthropic,bedrock,google]" \
	  scrubadub --group dev
	@touch $@

setup: .venv/development

demo: .venv/runtime
	@$(BIN)/fine-tuning demo

test: .venv/development
	@rm -f .coverage .coverage.*
	@OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n 2 --dist loadfile --cov \
	  --cov-report=term --cov-fail-under=95 --durations=10 $(PYTEST_ARGS)

check: .venv/development
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy skill tools
	@$(BIN)/pyright
	@$(BIN)/lint-imports

bench: .venv/development
	@for script in benchmarks/*.py; do echo "== $$script"; \
	  OMP_NUM_THREADS=1 $(BIN)/python $$script || exit 1; done

clean:
	@rm -rf .venv .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@rm -rf .import_linter_cache benchmarks/out node_modules
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
