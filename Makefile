# make demo   environment, build, train, freeze, test, predict and a picture, on real silicon
# make test   the test suite
PYTHON ?= python3
TORCH ?= torch==2.13.0
VENV ?= .venv
BIN = $(abspath $(VENV))/bin

SOURCES = pyproject.toml setup.py CMakeLists.txt $(shell find $(wildcard csrc cuda python) -type f -not -name '*.so' -not -path '*/__pycache__/*')

.PHONY: demo test install clean

install: $(VENV)/.installed

$(VENV)/.installed: $(SOURCES)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/pip install --quiet --disable-pip-version-check '.[plot,test]'
	touch $@

demo: $(VENV)/.installed
	cd examples/silicon && PATH="$(BIN):$$PATH" sh run.sh

test: $(VENV)/.installed
	$(BIN)/python -m pytest -q -n auto tests

clean:
	rm -rf $(VENV) build
