# make            builds bin/onbehalf
# make test       everything that must hold, the way CI runs it
# make bench      the numbers of docs/benchmarks.md, measured on this machine
.PHONY: build deps generate lint test test-long bench clean
.DEFAULT_GOAL := build

export CGO_ENABLED ?= 0
STATICCHECK := go tool staticcheck

build:
	go build -trimpath -o bin/onbehalf ./cmd/onbehalf

deps:
	./.ci/deps

generate:
	go generate ./internal/api/...

lint:
	@unformatted="$$(gofmt -l $$(git ls-files '*.go'))"; if [ -n "$$unformatted" ]; then echo "gofmt would change:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	cd examples/openaiagent && go vet ./...
	$(STATICCHECK) ./...

# ONBEHALF_REQUIRE_ALL turns "skipped: no Chromium here" into a failure.
test: deps lint
	ONBEHALF_REQUIRE_ALL=1 ./.ci/with-postgres go test -timeout 20m ./...
	cd examples/openaiagent && go test ./...
	CGO_ENABLED=1 go test -race -short -timeout 15m ./internal/... ./agent/... ./cmd/... ./examples/...

# The long runs, seeds printed, and Keycloak.
test-long:
	ONBEHALF_LONG=1 ./.ci/deps
	ONBEHALF_REQUIRE_ALL=1 ONBEHALF_LONG=1 ./.ci/with-postgres go test -v -timeout 80m ./...

bench:
	go run ./bench

clean:
	rm -rf bin
