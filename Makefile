# Needs Python >= 3.11 (with venv) and make; everything else goes into .venv.
# Another interpreter: make test PYTHON=python3.12. One lab: make prove LAB=lab1_pruning.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help install demo test lint types pytest attack lab lectures lectures-check release work grade doctor bench prove stamp

PYTHON ?= python3
LAB ?= $(notdir $(wildcard solutions/lab*))
BIN := .venv/bin
# nbgrader calls alembic, and Jupyter its subcommands, by name.
export PATH := $(CURDIR)/$(BIN):$(PATH)
INSTALLED := .venv/.installed
# Images of Python often set it; without bytecode `import torch` takes twice as long, in every process.
unexport PYTHONDONTWRITEBYTECODE

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1 /p' Makefile | while read -r name text; do printf '  make %-14s %s\n' "$$name" "$$text"; done

install: $(INSTALLED) ## create .venv and install the course with the tested versions

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("make: got Python " + sys.version.split()[0] + "; allowed: 3.11 or newer (set PYTHON=...)")'
	@echo "Creating .venv; log in .venv/install.log"
	@$(PYTHON) -m venv .venv
	@PYTHONUNBUFFERED=1 $(BIN)/python -m pip install --progress-bar off --disable-pip-version-check \
	    --no-compile -c constraints.txt -e '.[grading,dev]' | tee .venv/install.log | { n=0; ticker=; \
	  if [ ! -t 1 ]; then echo "Installing the packages of constraints.txt ..."; cat >/dev/null; exit; fi; \
	  while read -r verb what; do case "$$verb $$what" in \
	    "Collecting "*) n=$$((n + 1)); printf '\r%-78.78s' "  $$n packages found, now $$what" ;; \
	    "Downloading "*) printf '\r%-78.78s' "  $$n packages found, downloading $$what" ;; \
	    "Installing collected "*) printf '\r%-78s\r  installing them ' ''; \
	      while kill -0 $$$$ 2>/dev/null; do sleep 3; printf .; done & ticker=$$! ;; \
	  esac; done; [ -z "$$ticker" ] || kill $$ticker; }
	@if [ -t 1 ]; then echo " done"; else echo "Installed."; fi
	@touch $@

demo: install ## grade three sample submissions of Lab 1 and write a report
	@$(BIN)/python -m samples.demo

test: lint types pytest ## run the checks: lint, types, tests

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: install
	@$(BIN)/mypy

pytest: install
	@$(BIN)/python -m pytest -m "not attack and not serial" -n logical --dist loadgroup $(PYTEST_ARGS)
	@$(BIN)/python -m pytest -m "serial and not attack" $(PYTEST_ARGS)

attack: install ## run the hostile submissions against the grader, and kill it at random moments
	@$(BIN)/python -m pytest -m attack -n logical --dist loadgroup $(PYTEST_ARGS)

lab: install ## open JupyterLab
	@$(BIN)/jupyter lab $$([ "$$(id -u)" != 0 ] || echo --allow-root) # root: in a container

lectures: install ## build the notebooks in lectures/ and solutions/ from their sources, executed
	@$(BIN)/course build

lectures-check: install ## run every notebook in full, one at a time; times go to build/lectures.md
	@$(BIN)/course run --jobs 1 --table build/lectures.md

release: install ## generate labs/ from solutions/ with nbgrader
	@for lab in $(LAB); do $(BIN)/course release $$lab; done

work: install ## copy labs into work/, to write answers in: make work LAB=lab1_pruning
	@for lab in $(LAB); do $(BIN)/course work $$lab; done

grade: install ## grade what lies in submitted/
	@for lab in $(LAB); do $(BIN)/autograder grade $$lab; done

doctor: install ## try every protection that grading relies on, on this machine
	@$(BIN)/autograder doctor

bench: install ## time kernels beside libraries, count on the emulated board, grade beside stock nbgrader
	@$(BIN)/python benchmarks/int8_gemm.py
	@$(BIN)/python benchmarks/cortex_m_kernels.py
	@$(BIN)/python benchmarks/microcontroller.py
	@$(BIN)/python benchmarks/grading.py
	@$(BIN)/python benchmarks/hand_ins.py lab5_tinyml
	@$(BIN)/python benchmarks/answers.py lab1_pruning
	@$(BIN)/python benchmarks/language_models.py
	@$(BIN)/python benchmarks/front_page.py
	@$(BIN)/python benchmarks/readme_figures.py

prove: install ## show that the grader tells right from wrong: the proof matrix, into build/proof/
	@$(BIN)/autograder prove $(LAB) --out build/proof

stamp: install ## write the repository's address everywhere: make stamp REPO=owner/name
	@$(BIN)/course stamp $(REPO)
