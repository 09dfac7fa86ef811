# Every target sets up what it needs in .venv and sets it up again only when pyproject.toml or a lock changed.
# Needed on the machine: make and Python >= 3.11 (`make run PYTHON=python3.13` chooses one).

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# Wheels only: building a source package would fetch build tools that no hash covers.
# -qq: pip's warnings about its own configuration are not this project's; errors are still shown.
PIP    := $(BIN)/python -m pip --disable-pip-version-check --no-input -qq
LOCKED := $(PIP) install --require-hashes --only-binary :all:

# make deploy
STACK  ?= embedonce
PARAMS ?=
RULES  ?=
SOURCES = $(shell find src scripts -type f -not -path '*/__pycache__/*' -not -path '*.egg-info/*')

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run test chaos lint openapi bench build deploy lock upgrade clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

run: $(VENV)/.local ## set up everything and serve on http://127.0.0.1:8787
	@exec $(BIN)/embedonce serve

# Much of the suite's time is waiting for processes: three at a time also on two cores.
test: $(VENV)/.dev ## all tests (make test ARGS='-k plan -x' for some)
	@$(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

chaos: $(VENV)/.dev ## kill -9 at every step of submit + poll, about 20 minutes (make chaos ARGS=--quick)
	@PYTHONPATH=src:tests $(BIN)/python -P -m chaos.run $(ARGS)

lint: $(VENV)/.dev ## ruff, mypy, cfn-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy scripts
	$(BIN)/cfn-lint template.yaml

openapi: $(VENV)/.dev ## write the OpenAPI document again
	@$(BIN)/embedonce openapi --write

bench: $(VENV)/.dev ## all measurements of bench/ (make bench ONLY=handler for one)
	@set -e; for program in $(or $(ONLY),handler accounting server imports memory media_memory worker_memory ingest_memory ingest_cost); do \
	  echo "== bench/$$program.py"; \
	  case $$program in \
	    media_memory|worker_memory|ingest_*) PYTHONPATH=src:tests $(BIN)/python -P bench/$$program.py ;; \
	    *) $(BIN)/python bench/$$program.py ;; \
	  esac; \
	done

build: build/embedonce-api.zip build/embedonce-ingest.zip ## the Lambda packages (arm64, Python 3.13) in build/

build/embedonce-api.zip: $(VENV)/.dev requirements/lambda.txt events/health.json $(SOURCES)
	@$(BIN)/python scripts/build_lambda.py lambda

build/embedonce-ingest.zip: $(VENV)/.dev requirements/ingest.txt events/ingest_test_event.json $(SOURCES)
	@$(BIN)/python scripts/build_lambda.py ingest

# PARAMS are template parameters: make deploy PARAMS='OpenRouterSecretArn=arn:… ThrottleRate=20'
# RULES names a file with the rules for files in S3 (the parameter IngestRules).
# With the AWS CLI in place of SAM, DEPLOY_BUCKET names a bucket of yours for the upload.
deploy: build ## deploy template.yaml with SAM, or else with the AWS CLI
	@$(if $(RULES),rules=$$($(BIN)/python scripts/rules.py '$(RULES)') || exit 1;) \
	if command -v sam >/dev/null; then \
	  exec sam deploy --template-file template.yaml --stack-name '$(STACK)' --resolve-s3 \
	    --capabilities CAPABILITY_IAM --no-fail-on-empty-changeset \
	    $(if $(strip $(PARAMS)$(RULES)),--parameter-overrides $(PARAMS)) \
	    $(if $(RULES),"IngestRules='$$rules'"); \
	elif command -v aws >/dev/null; then \
	  if [ -z '$(DEPLOY_BUCKET)' ]; then \
	    echo 'Without SAM, name a bucket of yours for the upload: make deploy DEPLOY_BUCKET=…' >&2; \
	    exit 1; \
	  fi; \
	  aws cloudformation package --template-file template.yaml --s3-bucket '$(DEPLOY_BUCKET)' \
	    --s3-prefix '$(STACK)' --output-template-file build/packaged.yaml && \
	  aws cloudformation deploy --template-file build/packaged.yaml --stack-name '$(STACK)' \
	    --capabilities CAPABILITY_IAM CAPABILITY_AUTO_EXPAND --no-fail-on-empty-changeset \
	    $(if $(strip $(PARAMS)$(RULES)),--parameter-overrides $(PARAMS)) \
	    $(if $(RULES),"IngestRules=$$rules"); \
	else \
	  echo 'make deploy needs AWS credentials and the SAM CLI (pipx install aws-sam-cli) or the AWS CLI.' >&2; \
	  exit 1; \
	fi

lock: $(VENV)/.dev ## write requirements/*.txt again, keeping versions that still fit
	@$(BIN)/python scripts/lock.py

upgrade: $(VENV)/.dev ## the same with the newest versions
	@$(BIN)/python scripts/lock.py --upgrade

clean: ## remove everything made here, but no vectors
	rm -rf $(VENV) build .aws-sam .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps lie in .venv, so that removing it removes them too.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo 'This needs Python 3.11 or later, and $(PYTHON) is' \
	    "$$($(PYTHON) -V 2>&1 || true). Choose another: make PYTHON=python3.13 …" >&2; exit 1; }
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV) || { \
	  rm -rf $(VENV); echo 'venv failed: on Debian and Ubuntu, apt install python3-venv' >&2; exit 1; }
	@touch $@

$(VENV)/.local: requirements/local.txt pyproject.toml | $(VENV)/.created
	@echo 'Setting up $(VENV) (once, about half a minute) …'
	@$(LOCKED) -r requirements/local.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

# dev.txt holds all of local.txt in the same versions: what tests are set up with also serves `make run`.
$(VENV)/.dev: requirements/dev.txt requirements/local.txt pyproject.toml | $(VENV)/.created
	@echo 'Setting up $(VENV) for development (once, about a minute) …'
	@$(LOCKED) -r requirements/dev.txt
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $(VENV)/.local $@
