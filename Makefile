# Two commands: `make up` and `make test`. Both may be repeated; what is made once is used again.
.POSIX:
.PHONY: help up test check schema clean

help:
	@echo 'make up      run RabbitMQ, the reconciler and the sample workers on http://127.0.0.1:5000 (Ctrl-C stops)'
	@echo 'make test    run the whole test suite (ARGS="-k name" for a part)'
	@echo 'make check   lint, format and types'
	@echo 'make schema  write schema/queues.schema.json anew'
	@echo 'make clean   remove what the others made, the data in var/ too'

up: .venv/.up
	@[ -n "$$AMQP_URL" ] || sh scripts/install-broker.sh
	@exec .venv/bin/reconciler run

test: .venv/.test
	@sh scripts/install-test-tools.sh
	@exec .venv/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

check: .venv/.test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

schema: .venv/.up
	.venv/bin/reconciler schema > schema/queues.schema.json

clean:
	rm -rf .venv var .mypy_cache .ruff_cache .hypothesis

.venv/.up: pyproject.toml
	@sh scripts/venv.sh $@ ''

# The test extra includes the rest, so that `make up` after `make test` has nothing to install.
.venv/.test: pyproject.toml
	@sh scripts/venv.sh $@ '[test]' && touch .venv/.up
