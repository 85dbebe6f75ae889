# Forebay. `make help` lists the targets.

SHELL := /bin/bash
# Generic code of one room is specialised in the rooms that use it: a tenth less CPU for each small push.
RELEASE_FLAGS := --static-swift-stdlib -Xswiftc -use-ld=lld -Xswiftc -cross-module-optimization
SWIFT_BUILD := swift build -c release --product forebay $(RELEASE_FLAGS)
BUILD_PACKAGES := g++ pkg-config libmicrohttpd-dev liblmdb-dev libcurl4-openssl-dev libssl-dev
# Clients and servers that the end-to-end tests drive.
TEST_PACKAGES := curl openssl python3 python3-venv skopeo buildah podman containerd debootstrap \
	ceph-mon ceph-osd radosgw ceph-common prometheus

# Servers to measure beside, and what measures.
BENCH_PACKAGES := nginx-light varnish docker-registry wrk valgrind binutils curl python3 ceph-mon ceph-osd radosgw ceph-common

.PHONY: help run build test lint format bench bench-short bench-budget bench-replay bench-restart clean
.DEFAULT_GOAL := help

help: ## This list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## Build, and serve on 127.0.0.1:5000 with a directory as the origin.
	.build/release/forebay serve

build: ## Install what is missing, and build the release into .build/release/forebay.
	@conf/check-swift
	@conf/install-packages $(BUILD_PACKAGES)
	$(SWIFT_BUILD)

test: build ## Install what is missing, and run all tests, with real clients and a real S3 server.
	@conf/install-packages $(TEST_PACKAGES)
	Tests/run

lint: ## Check the format.
	swift format lint --strict --recursive Sources Tests bench Package.swift

format: ## Format all sources.
	swift format --in-place --recursive Sources Tests bench Package.swift

bench: build ## Beside nginx, Varnish and docker-registry, and instructions per request against their budget: half an hour.
	@conf/install-packages $(BENCH_PACKAGES)
	bench/side_by_side.py; failed=$$?; bench/budget.py && exit $$failed

bench-short: build ## The same in less than 10 minutes.
	@conf/install-packages $(BENCH_PACKAGES)
	bench/side_by_side.py --short; failed=$$?; bench/budget.py --requests 100 && exit $$failed

bench-replay: ## What each eviction policy saves, on generated traces; .build/release/cache-replay FILE.csv replays your own.
	swift build -c release --product cache-replay $(RELEASE_FLAGS)
	.build/release/cache-replay

bench-restart: build ## Restart with up to a million blobs on disk: time, memory, what a lookup costs; some minutes and 5 GiB.
	@conf/install-packages wrk python3
	swift build -c release --product TierBench $(RELEASE_FLAGS)
	bench/restart.py

bench-budget: build ## Record the instructions per request as the new budget.
	@conf/install-packages valgrind binutils python3
	bench/budget.py --record

clean: ## Remove everything built.
	rm -rf .build
