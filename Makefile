# What a person types. Each target is a script of scripts/ or bench/, and works
# on a fresh Debian machine with cargo, as root (it installs what is missing).

.PHONY: help build demo bases test lint aarch64 names bench clean

help:
	@echo 'make build   the static binary, with cargo'
	@echo 'make demo    the whole story: bases, two builds, sizes, run, page, stop'
	@echo 'make test    every test, with the tools they compare with'
	@echo 'make lint    formatting, clippy, shellcheck, licences'
	@echo 'make aarch64 compiles everything for aarch64; as root'
	@echo 'make names   look-ups of host names in Debian 12 to 14 and a small root directory; as root'
	@echo 'make bench   timings beside buildah'
	@echo 'make bases   only the base images of the demo'
	@echo 'make clean   removes .demo (bases and store) and target'

build:
	scripts/install-needs.sh
	cargo build --release --locked -p dram

demo:
	scripts/demo.sh

bases:
	scripts/install-needs.sh demo
	scripts/make-bases.sh

test:
	scripts/test.sh

lint:
	scripts/lint.sh

aarch64:
	scripts/check-aarch64.sh

names:
	cargo build --locked -p dram
	scripts/check-name-resolution.sh

bench:
	bench/run.sh

clean:
	rm -rf .demo
	cargo clean
