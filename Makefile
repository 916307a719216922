# Short names for what cargo and scripts/ do. `make` alone lists them.

# Settings in .env count here too, as far as deploy/compose.yaml names them.
COMPOSE = docker compose -f deploy/compose.yaml $(if $(wildcard .env),--env-file .env)

.DEFAULT_GOAL := help
.PHONY: help setup build static release run demo test test-cov lint format check clean deploy docker-logs docker-restart docker-down

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## secrets.json from its template, mode 600, and a git hook that checks before each commit
	@scripts/setup

build: ## the release binary, target/release/flow-uring
	cargo build --release --locked

static: ## the program with the C library within it: for any Linux
	scripts/static

release: ## archive, packages and papers of a clean tree, in target/dist
	scripts/release

run: ## the gateway, with secrets.json
	cargo run --release --locked

demo: ## the gateway in front of an embedded upstream; needs no account
	cargo run --release --locked -- demo

test: ## all tests
	cargo test --locked

test-cov: ## all tests, and how much of the code they reach (needs cargo-llvm-cov)
	@cargo llvm-cov --version >/dev/null 2>&1 || { \
	  echo "make test-cov: cargo-llvm-cov is missing. Install it: cargo install cargo-llvm-cov --locked" >&2; exit 1; }
	cargo llvm-cov --locked

lint: ## clippy, warnings are errors
	cargo clippy --locked --all-targets -- -D warnings

format: ## formats the code
	cargo fmt --all

check: ## everything that must hold before a change lands
	scripts/check

clean: ## removes what was built
	cargo clean

deploy: ## builds the image and starts the container, as the owner of secrets.json
	@test -f secrets.json || { echo "make deploy: there is no secrets.json. Begin with: make setup" >&2; exit 1; }
	mkdir -p logs state
	FLOW_URING_USER=$$(stat -c %u:%g secrets.json) $(COMPOSE) up -d --build

docker-logs: ## follows the container's log
	$(COMPOSE) logs -f

docker-restart: ## starts the container anew, after its open requests have ended
	$(COMPOSE) restart

docker-down: ## stops the container, after its open requests have ended, and removes it
	$(COMPOSE) down
