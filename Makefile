# make demo   from a fresh machine to a trained, scored and drawn action detector
# make test   installs if needed, then runs style checks and all tests
# make lock   renews requirements.lock: the newest versions, with the hashes of all their files
# make site   builds the documentation as a site into build/site
# NEWEST=1    with any of them: the newest versions that pyproject.toml allows, in .venv-newest
PYTHON ?= python3
NEWEST ?=
VENV := .venv$(if $(NEWEST),-newest)
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_DATA := data/demo
DEMO_RUN := runs/demo_x3d_xs
DEMO_PEOPLE := runs/people_demo
PROCESSES ?= 2
TEST_PROCESSES ?= auto

.PHONY: install demo test lint lock site clean
install: $(STAMP)

# A package whose hash is not the lock's is refused.
$(STAMP): pyproject.toml setup.py requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
ifeq ($(NEWEST),)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
else
	$(BIN)/python -m pip install --quiet --upgrade --upgrade-strategy eager -e ".[dev]"
endif
	touch $@

lock: install
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
		--generate-hashes --upgrade --no-header --no-annotate --no-emit-index-url --quiet \
		--output-file requirements.lock
	sed -i -e '1i # Exact versions and hashes of all packages, direct and transitive. Not to be edited: `make lock` writes it' \
		-e '1i # anew with the newest versions that pyproject.toml allows (UV_CONSTRAINT=FILE holds some of them back).' \
		requirements.lock

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# A process of tests that dies is a failure with the test's name: a new one in its place may wait for
# ever for files that are done (pytest-xdist 3.8 with loadfile).
test: install lint
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --max-worker-restart 0

# people are detected by a Faster R-CNN trained on the data's own boxes, not given
demo: install
	$(BIN)/python -m ava_tools.make_demo --out $(DEMO_DATA)
	$(BIN)/python -m ava_tools.train_people --cfg configs/people_demo.yaml output=$(DEMO_PEOPLE) --overwrite
	$(BIN)/python -m ava_tools.detect_people --dataset $(DEMO_DATA) --split val --weights $(DEMO_PEOPLE) \
		--out $(DEMO_DATA)/annotations/boxes_people_val.csv --register people --overwrite
	$(BIN)/python -m ava_tools.report_boxes --dataset $(DEMO_DATA) --split val --name people --threshold 0.65 \
		--png $(DEMO_PEOPLE)/boxes.png --html $(DEMO_PEOPLE)/boxes.html
	$(BIN)/python -m torch.distributed.run --standalone --nproc-per-node $(PROCESSES) train_ava.py \
		--cfg configs/demo_x3d_xs.yaml output=$(DEMO_RUN) --overwrite \
		data.val_boxes=people data.also_score_boxes=[ground-truth]
	cp $(DEMO_PEOPLE)/checkpoints/best.pt $(DEMO_RUN)/people.pt  # where detect_actions looks for it
	$(BIN)/python -m ava_tools.visualize --run $(DEMO_RUN) --sheet $(DEMO_RUN)/visualize/sheet.png

site: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

clean:
	rm -rf .venv .venv-newest build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
