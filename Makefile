# Two commands: `make demo` and `make test`. `make help` lists the others.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

export EDGESCALE_TOOLS := $(abspath $(or $(EDGESCALE_TOOLS),.tools))
TARGET := $(or $(CARGO_TARGET_DIR),target)
EDGESCALE := $(TARGET)/debug/edgescale
OPTIMISED := $(TARGET)/release/edgescale
VIDEO ?= $(EDGESCALE_TOOLS)/clips/bigbuckbunny.mp4

.NOTPARALLEL:
.PHONY: help demo test up steps fuzz bench build release handlers tools fmt lint doc clean

help: ## This list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16

# `exec`: the program, not a shell, is make's child, so that Ctrl-C and SIGTERM reach it.
demo: tools build handlers ## One video through the whole tree; VIDEO=path, JSON=1 for one JSON document
	@exec "$(EDGESCALE)" demo --video "$(VIDEO)" $(if $(JSON),--json)

up: tools build handlers ## The same tree, kept running for you
	@exec "$(EDGESCALE)" up

steps: ## A million random steps of one store, with crashes, against a model; SEED=n for the same run again
	STORE_STEPS=1000000 STORE_SEED=$(or $(SEED),$(shell date +%s)) cargo test --workspace --lib \
		nothing_acknowledged_is_lost -- --nocapture

fuzz: tools ## Bend what comes from outside, each target for SECONDS (600), all side by side; SEED=n
	EDGESCALE_FUZZ_SECONDS=$(or $(SECONDS),600) $(if $(SEED),EDGESCALE_FUZZ_SEED=$(SEED)) \
		cargo test --test it fuzz:: -- --nocapture

bench: tools release ## Every kernel on every device of this machine
	@exec "$(OPTIMISED)" bench kernels $(if $(JSON),--json)

release: ## The program for a site, optimised, under target/release
	@cargo build --release >&2

test: ## Unit, conformance and integration tests on real servers
	@./tools.sh test
	@$(MAKE) build handlers
	cargo test --workspace --no-fail-fast

# Everything before the last program speaks on stderr: stdout belongs to the result.
tools:
	@./tools.sh demo

build:
	@cargo build --workspace >&2

handlers:
	@examples/doorcam/build.sh examples/doorcam >&2

fmt: ## Rewrite the sources to the house format
	cargo fmt --all

lint: ## Formatting and lints, warnings are errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

doc: ## The pages of every crate, under target/doc
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

clean: ## Remove what was built and written; .tools/ stays
	cargo clean
	rm -rf out .edgescale
