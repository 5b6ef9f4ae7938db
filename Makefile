# `make demo` and `make test` do everything, set-up included, on a fresh Debian machine as root.
.PHONY: demo test deps build install lint test-kernel test-interop bench load bars compare sim fuzz deny clean

demo: ; @scripts/demo.sh
test: ; @scripts/test.sh
deps: ; @scripts/deps.sh all
build: ; cargo build --locked --release
# Below DESTDIR and PREFIX; nothing that stands in /etc is touched.
PREFIX ?= /usr
install: build
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/share/man/man5 $(DESTDIR)$(PREFIX)/share/man/man8
	install -d $(DESTDIR)$(PREFIX)/share/doc/iked $(DESTDIR)$(PREFIX)/lib/systemd/system
	install -s -m 755 target/release/iked target/release/ikectl $(DESTDIR)$(PREFIX)/sbin
	install -m 644 man/iked.conf.5 $(DESTDIR)$(PREFIX)/share/man/man5
	install -m 644 man/iked.8 man/ikectl.8 $(DESTDIR)$(PREFIX)/share/man/man8
	install -m 644 conf/iked.conf docs/CONFORMANCE.md docs/DIFFERENCES.md $(DESTDIR)$(PREFIX)/share/doc/iked
	install -m 644 conf/iked.service conf/iked.socket $(DESTDIR)$(PREFIX)/lib/systemd/system
lint: ; @scripts/test.sh fmt lint
test-kernel: ; @scripts/test.sh kernel
test-interop: ; @scripts/test.sh interop
bench: ; @scripts/bench.sh
# Synthetic initiators against this tree's iked: what one IKE SA costs, and how long it takes.
load: ; @scripts/load.sh $${SCENARIO:-loadtest/scenarios/storm.toml} --html load.html
# What this iked is to come to: latency, overload, memory, many peers, shards; IKED_BARS_LONG=1 for a million peers.
bars: ; @scripts/bars.sh
# The same peers against this tree's iked, strongSwan, libreswan and OpenIKED, in turns: what an IKE SA costs each.
compare: ; @scripts/deps.sh compare && scripts/compare.sh
deny: ; cargo deny check
# Many worlds of the simulation: IKED_SIM_SEEDS of them, from IKED_SIM_FIRST on.
sim: ; @IKED_SIM_SEEDS=$${IKED_SIM_SEEDS:-100000} cargo test --locked --test sim as_many_worlds -- --nocapture
# One minute for each fuzz target; `fuzz/run TARGET -max_total_time=N` for more.
fuzz: ; @for target in fuzz/corpus/*/; do fuzz/run $$(basename $$target) -max_total_time=60 || exit 1; done
clean: ; cargo clean
