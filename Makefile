# make demo   from a fresh machine to a trained, scored and drawn action detector
# make test   installs if needed, then runs style checks and all tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_DATA := data/demo
DEMO_RUN := runs/demo_x3d_xs

.PHONY: install demo test lint clean
install: $(STAMP)

$(STAMP): pyproject.toml setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: install lint
	$(BIN)/python -m pytest

demo: install
	$(BIN)/python -m ava_tools.make_demo --out $(DEMO_DATA)
	$(BIN)/python train_ava.py --cfg configs/demo_x3d_xs.yaml output=$(DEMO_RUN) --overwrite
	$(BIN)/python -m ava_tools.visualize --run $(DEMO_RUN) --sheet $(DEMO_RUN)/visualize/sheet.png

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
