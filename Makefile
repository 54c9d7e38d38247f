.POSIX:
# `make` lists what there is. PYTHON, PORT, REAL, WORKERS and SECONDS may be given: make serve PORT=8000 REAL=1
# Needs a POSIX shell, Python with venv and pip, and make; everything else is installed into .venv.

PYTHON =
PORT =
REAL =
WORKERS = 3
SECONDS = 60

.PHONY: help demo serve test coverage test-services torture bench pins clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-22s %s\n", $$1, $$2 }'

demo: .venv/demo ## the tour: real processes against an embedded Valkey and a stand-in Claude; REAL=1: the real API
	@$(real); .venv/bin/python manage.py tour "$$@"

serve: .venv/demo ## the example site for your browser, until Ctrl-C; PORT=8000 chooses the port, REAL=1: the real API
	@$(real); [ -z '$(PORT)' ] || set -- --port '$(PORT)' "$$@"; exec .venv/bin/python manage.py serve "$$@"

test: .venv/test ## style, types, layers, then the tests; WORKERS=4 for more processes
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache > .venv/lint-imports || { cat .venv/lint-imports; exit 1; }
	.venv/bin/python -m pytest -q -m "not services" $(parallel)

coverage: .venv/test ## the tests, and which lines and branches they reach
	.venv/bin/python -m pytest -q -m "not services" $(parallel) --cov --cov-report=
	@echo "Coverage: $$(.venv/bin/coverage report --format=total) % of the lines and branches; more in .venv/bin/coverage report"

test-services: .venv/test ## the second lane: PostgreSQL, the system's Redis, RabbitMQ
	@.venv/bin/python -m tests.services
	.venv/bin/python -m pytest -q -m services $(parallel)

torture: .venv/test ## nothing stale while savers, readers and Valkey are killed; on PostgreSQL where it answers; SECONDS=60
	.venv/bin/python -m tests.torture --seconds $(SECONDS)

bench: .venv/test ## the benchmarks
	.venv/bin/python -m benchmarks

pins: .venv-pins/pins ## writes requirements/ anew, with the newest versions that pyproject.toml allows
	$(compile) --upgrade --group test --group django52 --extra testing --extra celery --extra metrics --python-version 3.11 -o requirements/test.txt pyproject.toml
	$(compile) --upgrade --group test --group django61 --extra testing --extra celery --extra metrics --python-version 3.12 -o requirements/test-django61.txt pyproject.toml
	$(compile) --upgrade --group demo --group django52 --extra embedded --python-version 3.11 -c requirements/test.txt -o requirements/demo.txt pyproject.toml
	$(compile) --upgrade --group pyproject.toml:pins --python-version 3.11 -o requirements/pins.txt

clean: ## removes the environments and whatever else was made
	rm -rf .venv .venv-3.13 .venv-pins build dist *.egg-info .coverage .coverage.* htmlcov test-artifacts
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# More tests at once than cores: many wait. Each process takes over what another has not come to.
parallel = -n $(WORKERS) --dist worksteal

# The arguments of manage.py: nobody pays by accident, so only REAL=1 asks for the real API.
real = set --; case '$(REAL)' in ''|0) ;; *) set -- --real ;; esac

# One file for every Python and platform. The options say nothing of an index: no address gets into the files.
compile = .venv-pins/bin/uv pip compile --quiet --universal --generate-hashes --custom-compile-command "make pins"

.venv/demo: requirements/demo.txt pyproject.toml .ci/environment
	@PYTHON='$(PYTHON)' sh .ci/environment .venv requirements/demo.txt
	@touch .venv/demo

.venv/test: requirements/test.txt pyproject.toml .ci/environment
	@PYTHON='$(PYTHON)' sh .ci/environment .venv requirements/test.txt
	@touch .venv/test .venv/demo

.venv-pins/pins: requirements/pins.txt .ci/environment
	@PYTHON='$(PYTHON)' sh .ci/environment .venv-pins requirements/pins.txt
	@touch .venv-pins/pins
