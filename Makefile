# make demo               the whole method on the miniature of drawn people; results in demo/
# make demo PHOTO=me.jpg  the same with your own photograph, on the model of photographed people
# make test               everything that has to pass before a change lands
# make fuzz               damaged files, tables, prompts, calls, kills, models, visitors (half an hour of two cores)
# make benchmark          the comparison with other methods (hours); run again, it continues where it stopped
# make wheel              the installable file, in dist/
# Each sets up what it needs in .venv first (Python 3.11; once, about 3 minutes).

PYTHON ?= python3.11
# One harmless notice about torchvision, which nothing here needs.
export TRANSFORMERS_VERBOSITY ?= error

BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test fuzz benchmark wheel clean
.DELETE_ON_ERROR:

demo: $(READY)
	$(BIN)/celeb-basis demo --out demo $(if $(PHOTO),--photo "$(PHOTO)")

test: $(READY)-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
# One thread for each of the two processes and for the commands they start: more would wait for one another.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

fuzz: $(READY)-dev
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/campaign.py --seed $(or $(SEED),0) $(if $(ROWS),--rows "$(ROWS)") $(PARTS)

benchmark: $(READY)-dev
	$(BIN)/python benchmarks compare --compile
	$(BIN)/python benchmarks report
	$(BIN)/python benchmarks sheets

wheel: $(READY)
	rm -rf build
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .
	@ls -lh dist/*.whl

$(READY): pyproject.toml constraints.txt
	@echo "setting up .venv (about 3 minutes, once) ..."
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is needed; another one: make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[photo]'
	@touch $@

$(READY)-dev: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
# Only for the CLIP vocabulary in it, which proves the list of celebrities; its dependencies would bring torchvision.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps open_clip_torch
	@touch $@

clean:
	rm -rf build dist demo .mypy_cache .pytest_cache .ruff_cache
