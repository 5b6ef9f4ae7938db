# `make test` installs what is missing, builds, and runs every test.
.PHONY: test deps
deps:
	@command -v cmake >/dev/null && command -v clang >/dev/null && ls /usr/lib/llvm-*/lib/libclang*.so* >/dev/null 2>&1 || \
	  { apt-get update -qq && apt-get install -y -qq cmake clang libclang-dev; }
test: deps
	cargo test --locked
