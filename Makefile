# What can be asked for: `make help`. Needs Rust, a C compiler, make and Python 3 with pip; what is missing is named in
# one line. Everything made here lies in folders that git ignores: target, models, dist, .venv.

CARGO ?= cargo
PYTHON ?= python3
export CARGO PYTHON

TARGET := $(or $(CARGO_TARGET_DIR),target)
RUNTIME := $(TARGET)/release/tealight
BUNDLER := $(TARGET)/release/tealight-bundle
# The model of `make run`; `python3 tools/models.py list` names others.
MODEL ?= qwen2.5-coder-1.5b
BUNDLE = dist/$(MODEL)
# Asked of the table of models where one is wanted, before anything is built.
ifneq ($(filter run bundle model dist/%,$(MAKECMDGOALS)),)
WEIGHTS := $(shell sh tools/need.sh python && $(PYTHON) tools/models.py path '$(MODEL)')
NAME := $(shell $(PYTHON) tools/models.py title '$(MODEL)' 2>/dev/null)
ifeq ($(WEIGHTS),)
$(error no weights for MODEL=$(MODEL); the reason stands above)
endif
endif

.DELETE_ON_ERROR:
.PHONY: help run bundle build dist model test test-nightly test-rust test-units test-e2e soak test-arm fuzz loom miri fidelity bench bench-avx2 bench-guard check fmt circles clippy deny clean \
	distclean need-build need-python need-test FORCE

help: ## this list
	@echo 'tealight: one file that holds a language model, its engine and a chat page'
	@echo
	@sed -n 's/^\([a-z0-9-]*\):.*## \(.*\)/\1|\2/p' Makefile | while IFS='|' read -r name about; do \
		printf '  make %-10s %s\n' "$$name" "$$about"; done
	@echo
	@echo 'make run MODEL=smollm2   takes a small model (98 MB), which is quick to fetch and too small to know much'
	@echo 'NOBROWSER=1 make run   only prints the address;   make run ARGS="--port 9000"   passes arguments on'
	@echo 'make dist TARGETS="windows-x86_64 macos-arm64"   builds these only'
	@echo 'CHROME=/path make test   names the browser to test the page with'

run: bundle ## build, get the model (1.1 GB, once), make one file of both in dist/ and start it
	./$(BUNDLE) $(if $(NOBROWSER),--nobrowser) $(ARGS)

bundle: $(BUNDLE) ## the same without starting it

build: need-build ## the two programs, optimized
	$(CARGO) build --release --workspace

# Fetches what Rust and the linkers need for each, or says what is missing.
dist: need-build need-python ## both programs for Linux, Windows and macOS, checked, with checksums, in dist/
	@sh tools/dist/dist.sh $(TARGETS)

test: need-build need-python need-test ## set up all that is needed and test, on real models and in a real browser too
	$(PYTHON) tools/models.py get tests
	@sh tools/venv.sh .venv tests/requirements.txt
	@$(MAKE) --no-print-directory test-rust
	@$(MAKE) --no-print-directory bench-guard
	@$(MAKE) --no-print-directory test-e2e

test-nightly: test ## that, and what takes long: the programs of other systems, the reference, fuzzing
	@sh tools/need.sh systems
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r tools/fidelity/requirements.txt
	@$(MAKE) --no-print-directory test-arm
	@$(MAKE) --no-print-directory loom
	.venv/bin/python -m pytest tests/e2e -m nightly
	@$(MAKE) --no-print-directory fuzz

# Builds the two programs on the way: the tests in tests/ and bundler/tests/ want them.
test-rust:
	$(CARGO) test --release --workspace

# No model is fetched for these.
test-units:
	$(CARGO) test --release --workspace --lib --bins
	$(CARGO) test --release --test families --test templates

# E2E="-k page -x" passes arguments on to pytest.
test-e2e:
	CHROME="$$(sh tools/browser.sh)" .venv/bin/python -m pytest tests/e2e -m 'not nightly' $(E2E)

# SOAK_SECONDS=3600 takes longer.
soak: build need-python ## ten minutes of random clients that stall, leave and cancel, against the lone answers
	$(PYTHON) tools/models.py get tests
	@sh tools/venv.sh .venv tests/requirements.txt
	SOAK_SECONDS=$(or $(SOAK_SECONDS),600) .venv/bin/python -m pytest tests/e2e/test_many.py -k random_clients

test-arm: need-build ## the kernels for 64-bit ARM, in an emulator
	@sh tools/test-kernels.sh

# ARGS="calls schema" names targets, SECONDS_EACH=600 takes longer.
fuzz: need-build need-python ## fuzz what reads strangers' bytes, each target for a minute
	@sh tools/fuzz.sh $(ARGS)

# Every order in which the pool's threads can sleep, wake, join and end, and in which a request and the scheduler can
# send, stall, cancel and end.
loom:
	cd tests/kernels && CARGO_TARGET_DIR="$(abspath $(TARGET))/loom" RUSTFLAGS="--cfg loom" $(CARGO) test every_order

# What has unsafe code and runs there: the thread pool, and the kernels' meaning.
miri:
	MIRIFLAGS=-Zmiri-disable-isolation $(CARGO) +nightly miri test --lib -- kernels::pool kernels::scalar

# ARGS="tiny tokenizers" passes arguments on.
fidelity: build need-python ## compare every logit and token with llama.cpp's, and rewrite docs/fidelity.md
	$(PYTHON) tools/models.py get tests
	@sh tools/venv.sh .venv-reference tools/fidelity/requirements.txt
	.venv-reference/bin/python tools/fidelity/compare.py --write $(ARGS)

# The reference is built for this machine once, in an environment of its own. ARGS="smollm2 -r 3" passes arguments on;
# the page keeps its table then, which is of all models.
bench: build need-python ## compare our speed with llama.cpp's, and rewrite docs/performance.md
	$(PYTHON) tools/models.py get all
	@CMAKE_ARGS="-DGGML_NATIVE=ON" PIP_NO_CACHE_DIR=1 sh tools/venv.sh .venv-reference tools/fidelity/requirements.txt
	.venv-reference/bin/python tools/bench.py $(or $(ARGS),--write)

bench-guard: need-build need-python ## count the instructions of the main kernels (valgrind) and compare them with the table
	@command -v valgrind >/dev/null || sh tools/need.sh debian valgrind || true
	@$(PYTHON) tools/bench_guard.py $(ARGS)

# The reference is built once more: what pip built for this machine would serve it as well, so nothing is taken from
# its cache.
bench-avx2: build need-python ## the same, without AVX-512 on either side
	$(PYTHON) tools/models.py get all
	@PIP_NO_CACHE_DIR=1 CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON" \
		sh tools/venv.sh .venv-reference-avx2 tools/fidelity/requirements.txt
	.venv-reference-avx2/bin/python tools/bench.py --isa avx2 $(ARGS)

check: need-build need-python fmt circles deny clippy ## formatting, circles of imports, lints, licences of dependencies

fmt:
	$(CARGO) fmt --all --check

circles: ## files that import each other in a loop
	@$(PYTHON) tools/circles.py

# With the profile of the build: its build scripts and macros are used again.
clippy:
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings

deny:
	@sh tools/deny.sh

clean: ## remove what was built (models and .venv stay)
	rm -rf dist
	$(CARGO) clean

distclean: clean
	rm -rf models .venv .venv-reference .venv-reference-avx2

model: $(WEIGHTS)

need-build:
	@sh tools/need.sh build
need-python:
	@sh tools/need.sh python
need-test:
	@sh tools/need.sh test

# Cargo and models.py know best what is up to date; asked each time, they leave what is whole untouched, and then the
# bundle is not made again.
$(RUNTIME) $(BUNDLER): build
	@test -x $@
ifdef WEIGHTS
$(WEIGHTS): need-python FORCE
	@$(PYTHON) tools/models.py get $(MODEL)

$(BUNDLE): $(RUNTIME) $(BUNDLER) $(WEIGHTS) $(wildcard web/*) Makefile
	@mkdir -p $(@D)
	$(BUNDLER) --weights $(WEIGHTS) -o $@ --runtime $(RUNTIME) --web web --name '$(NAME)' \
		$(if $(wildcard LICENSE),--license LICENSE) --force
endif
