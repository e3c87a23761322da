# realm_jax. `make help` lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/bash -o pipefail
# Huge pages, for all that runs below, tests too; `realm` itself asks for them (realm_jax/huge_pages.py).
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1
ACCEL ?= cpu
CONFIG ?= experiments/$(if $(TPU),tpu_v3_8,nano).py
WORKDIR ?=
CORPUS ?=
SOURCE ?=
OUT ?= corpora/new
TAGGER ?= runs/tagger
INIT ?=
DATASET ?=
QUESTIONS ?=
PORT ?=
VENV ?= .venv
PYTHON ?= python3
PY = $(VENV)/bin/python
WORKERS ?= 2
# A worker that crashes ends the tests: with a new one in its place, pytest-xdist's loadfile waits for ever.
PYTEST = $(PY) -m pytest --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder --max-worker-restart=0
AS_ROOT = $(if $(filter 0,$(shell id -u)),,sudo)
ifneq ($(filter-out cpu gpu tpu,$(ACCEL)),)
$(error ACCEL=$(ACCEL) is unknown: use ACCEL=cpu, gpu or tpu)
endif
EXTRAS = dev$(if $(filter-out cpu,$(ACCEL)),$(comma)$(ACCEL))
comma := ,
define newline


endef
# One word of the shell, whatever is in it.
quoted = '$(subst $(newline),'$$'\n'',$(subst ','\'',$(1)))'
# --NAME=VALUE as one word, or nothing for an empty value.
flag = $(if $(2),$(call quoted,--$(1)=$(2)))
NEW_RUN = $(call flag,config,$(CONFIG)) $(call flag,workdir,$(WORKDIR)) $(call flag,corpus,$(CORPUS)) $(call flag,init,$(INIT)) $(ARGS)
OLD_RUN = $(call flag,workdir,$(WORKDIR)) $(ARGS)
# With TPU=v3-8 a command runs on that Cloud TPU instead of here: docs/launch.md.
TPU ?=
NAME = $(if $(TPU),realm-$(TPU))
ZONE ?=
PROJECT ?=
SPOT ?=
BUILDER_TPU ?=
BUILDER_ZONE ?=
JAX ?=
DRY_RUN ?=
JOB ?= pretrain
export TPU NAME ZONE PROJECT WORKDIR SPOT BUILDER_TPU BUILDER_ZONE JAX DRY_RUN
HERE = $(if $(TPU),,setup)
RUN = $(if $(TPU),launch/run.sh,$(PY))

.PHONY: help setup corpus tagger retag pretrain ict builder finetune eval demo screenshots chromium inspect ablations recall rehearsal curve notebooks tpu-create tpu-setup tpu-status tpu-stop tpu-delete tpu-watch lint test test-slow test-all test-kill soak mutants oracle docs dist clean

help: ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12
	@echo
	@echo 'variables: CONFIG=experiments/FILE.py WORKDIR=DIR CORPUS=FILE_OR_FOLDER INIT=MODEL ARGS="--pretrain.steps=100" ACCEL=cpu|gpu|tpu'
	@echo 'on a Cloud TPU: TPU=v3-8 NAME=realm-v3-8 ZONE= PROJECT= WORKDIR=gs://BUCKET/RUN SPOT=1 BUILDER_TPU=v5litepod-8 DRY_RUN=1'

setup: $(VENV)/.installed-$(ACCEL) ## make .venv with everything (ACCEL=cpu|gpu|tpu); quick when nothing changed

$(VENV)/.installed-$(ACCEL): setup.cfg pyproject.toml constraints.txt
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	@# setuptools warns of every editable installation
	PYTHONWARNINGS=ignore::UserWarning $(PY) -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	@rm -f $(VENV)/.installed-*
	@touch $@

corpus: setup ## SOURCE=dump, folder, hf:… or tfds:… to the corpus OUT, for make pretrain CORPUS=OUT; TAGGER=FOLDER: with its spans; resumes
	$(PY) -m realm_jax corpus $(call quoted,--source=$(SOURCE)) $(call quoted,--out=$(OUT)) $(if $(findstring command,$(origin TAGGER)),$(call flag,tagger,$(TAGGER))) $(ARGS)

tagger: setup ## a BERT that tags salient spans, in TAGGER; ARGS="--data=conll2003 --data_dir=FOLDER"; resumes
	$(PY) -m realm_jax tag $(call quoted,--out=$(TAGGER)) $(ARGS)

retag: setup ## the corpus CORPUS with the spans of TAGGER, to OUT; resumes
	$(PY) -m realm_jax retag $(call quoted,$(CORPUS)) $(call quoted,--tagger=$(TAGGER)) $(call quoted,--out=$(OUT)) $(ARGS)

pretrain: $(HERE) ## corpus, ICT, index and pre-training with the index builder beside it, then the summary; resumes
	$(RUN) -m realm_jax run $(NEW_RUN) $(if $(BUILDER_TPU),--index.device=accelerator)

ict: $(HERE) ## only the embedder's warm start
	$(RUN) -m realm_jax ict $(NEW_RUN)

builder: $(HERE) ## only the index builder of an existing run
	$(RUN) -m realm_jax builder $(OLD_RUN)

finetune: $(HERE) ## fine-tune a run on DATASET=nq|wq|ct|trivia|squad_open|cloze|FILE.jsonl; resumes
	$(RUN) -m realm_jax finetune $(call flag,dataset,$(DATASET)) $(OLD_RUN)

eval: $(HERE) ## exact match and retrieval of a run on DATASET; ARGS="--baseline=all" for floors and baselines
	$(RUN) -m realm_jax eval $(call flag,dataset,$(DATASET)) $(OLD_RUN)

demo: setup ## a page in the browser: fill blanks, ask questions, add documents, see curves and reports (WORKDIR= PORT=)
	$(PY) -m realm_jax serve $(call flag,port,$(PORT)) $(OLD_RUN)

screenshots: setup chromium ## pictures of that page's tabs, in screenshots/
	$(PY) -m tests.serve.screenshots $(OLD_RUN)

ablations: setup ## what each part of REALM contributes (the paper's Table 2 in small); resumes arm by arm
	$(PY) -m realm_jax ablate $(call flag,corpus,$(CORPUS)) $(call flag,dataset,$(DATASET)) $(ARGS)

inspect: setup ## what WORKDIR holds and who is at work in it; ARGS=--watch follows the run
	$(PY) -m realm_jax inspect $(if $(WORKDIR),$(call quoted,$(WORKDIR))) $(ARGS)

recall: setup ## zero-shot retrieval of a run on DATASET=questions.jsonl, or on its held-out sentences
	$(PY) -m realm_jax eval --only=recall $(call flag,dataset,$(DATASET)) $(OLD_RUN)

rehearsal: setup ## a run over a million blocks in small: real processes, a bucket, kills; about 20 minutes (ARGS="--blocks=30000 --steps=20 --name=")
	$(PY) benchmarks/rehearsal.py $(ARGS)

curve: CONFIG = experiments/passages.py
curve: setup ## hours: curves of REALM, of the frozen retriever and of more ICT, judged on QUESTIONS=FOLDER; resumes
	$(PY) benchmarks/curve.py $(call flag,questions,$(QUESTIONS)) $(NEW_RUN)

notebooks: setup ## notebooks/*.ipynb from their sources beside them, without outputs
	$(PY) notebooks/pair.py

tpu-create: ## a Cloud TPU of type TPU=v3-8, and wait until it is there (SPOT=1: cheaper, may be taken away)
	launch/create.sh

tpu-setup: ## this tree and its packages onto that TPU (JAX=VERSION for another JAX)
	launch/setup.sh

tpu-status: ## how the TPU NAME=realm-v3-8 is, and what runs on it
	launch/status.sh

tpu-stop: ## let the job on it save its state and end; the TPU stays, and costs
	launch/stop.sh

tpu-delete: NAME =
tpu-delete: ## delete the TPU whose full NAME is given, with its disk
	launch/delete.sh

tpu-watch: ## make JOB=pretrain|ict|finetune|eval on a TPU that may be taken away: make it anew and go on
	launch/watch.sh $(MAKE) $(call quoted,$(JOB))

lint: setup ## ruff, tables of the measurements, formats and plans, the picture of the rooms
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) benchmarks/tables.py --check
	$(PY) docs/formats.py --check
	$(PY) docs/plans.py --check
	$(PY) docs/architecture.py --check

# Hundreds of processes import the package: what Python compiles of it is kept, whatever the environment says.
test test-slow test-all test-kill soak mutants: export PYTHONDONTWRITEBYTECODE =

test: setup ## unit tests and a two-process run
	$(PYTEST) -m 'not slow'

test-slow: setup oracle chromium ## only the slow tests, without the longest
	$(PYTEST) -m 'slow and not long and not kill'

test-all: setup oracle chromium ## all tests but the kill matrix
	$(PYTEST) -m 'not kill'

test-kill: setup ## the kill matrix: processes are ended at any point, the same command again ends as an unbroken run
	$(PY) benchmarks/kill_matrix.py

MINUTES = 120
soak: setup ## end the processes of a small run at random for MINUTES, then train it again by its record and compare
	$(PY) benchmarks/soak.py --minutes=$(MINUTES)

mutants: setup ## plant mistakes in the mathematics, one at a time, and see that the tests notice each
	$(PY) -m tests.mutants

oracle: .venv-oracle/.installed ## make .venv-oracle: torch, TensorFlow and the last REALM classes, to be compared with

chromium: # Debian's browser, for tests of the demo and its screenshots
	@command -v chromium > /dev/null || ( $(AS_ROOT) apt-get -qq update && $(AS_ROOT) apt-get -qq install -y chromium ) \
	  || { echo 'no chromium, and apt-get cannot install it: install a browser of that name, then run this again' >&2; exit 2; }

.venv-oracle/.installed: requirements-oracle.txt
	test -x .venv-oracle/bin/python || $(PYTHON) -m venv .venv-oracle
	.venv-oracle/bin/python -m pip install --quiet --upgrade pip
	.venv-oracle/bin/python -m pip install --quiet --requirement requirements-oracle.txt
	@touch $@

docs: setup ## the documentation as a site in build/docs; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet
	@echo 'open build/docs/index.html, or: $(PY) -m http.server --directory build/docs'

dist: setup ## wheel and source archive in dist/, checked
	rm -rf dist build/lib build/bdist.*
	$(PY) -m build --quiet
	$(PY) -m twine check --strict dist/*

clean: ## remove .venv and caches; runs/ stays
	rm -rf $(VENV) .venv-oracle .pytest_cache .ruff_cache .hypothesis build dist *.egg-info
