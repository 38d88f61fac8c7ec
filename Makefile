# What a newcomer types. `make help` lists it.
#
#   make demo    build, start everything, print one sign-in link for each role
#   make test    everything that CI checks
#   make bench   measure the trainer beside PyTorch and TRL (make bench-labeling: the labeling pages and API)

.PHONY: help demo test transformers bench bench-labeling build-cuda prepare-sql packages-demo packages-test
.DEFAULT_GOAL := help

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

demo: packages-demo ## build, fetch the model, start on http://127.0.0.1:8080 with a demo project
	cargo build --locked --package server
	"$$(.ci/target-dir)/debug/plackett" model pull smollm2-135m-instruct
	"$$(.ci/target-dir)/debug/plackett" serve --demo

test: packages-test ## format, lints, docs, unit, database and browser tests
	.ci/test

transformers: ## what we write, read by transformers, gguf and peft from PyPI (a large download)
	.ci/transformers

bench: ## the trainer beside PyTorch, transformers and TRL, into docs/benchmarks.md (two hours, a large download)
	cargo build --locked --package server
	.ci/bench --document docs/benchmarks.md

bench-labeling: packages-demo ## how fast labelers get and submit tasks, beside pgbench, into docs/benchmarks.md (half an hour)
	.ci/with-postgres --durable cargo bench --locked --package server --bench labeling -- --document docs/benchmarks.md

build-cuda: ## the program for NVIDIA's GPUs in a folder of its own, built without one (docs/cuda.md)
	.ci/build-cuda

prepare-sql: packages-demo ## check every query against the schema and refresh .sqlx
	.ci/with-postgres .ci/prepare-sql

packages-demo:
	@.ci/packages demo

packages-test:
	@.ci/packages test
