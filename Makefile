# make help lists what there is.
GOFUMPT     = go run mvdan.cc/gofumpt@v0.12.0
STATICCHECK = go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
ARGS ?=
FUZZTIME ?= 60s
BENCHTIME ?= 2s
SCALE ?= 100000

DESTDIR ?=

.PHONY: help build keyd install install-keyd install-witness demo test fips lint fuzz bench e2e interop

help:               ## this list
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST)

build:              ## bin/cmmpd
	CGO_ENABLED=0 go build -trimpath -o bin/cmmpd ./cmd/cmmpd

keyd:               ## bin/cmmpd-keyd: the same program with cgo, which "cmmpd keyd" needs to load the libraries of tokens
	CGO_ENABLED=1 go build -trimpath -o bin/cmmpd-keyd ./cmd/cmmpd

install: build      ## program, unit, users and folders (systemd); DESTDIR for packages
	install -D -m 0755 bin/cmmpd $(DESTDIR)/usr/local/bin/cmmpd
	install -D -m 0644 configs/cmmpd.service $(DESTDIR)/etc/systemd/system/cmmpd.service
	install -D -m 0644 configs/cmmpd.sysusers $(DESTDIR)/usr/lib/sysusers.d/cmmpd.conf
	install -D -m 0644 configs/cmmpd.tmpfiles $(DESTDIR)/usr/lib/tmpfiles.d/cmmpd.conf
	install -D -m 0644 docs/operations.md $(DESTDIR)/usr/share/doc/cmmpd/operations.md
	@[ -n "$(DESTDIR)" ] || { systemd-sysusers cmmpd.conf && systemd-tmpfiles --create cmmpd.conf; }

install-keyd: keyd  ## keyd, its unit and its configuration, if there is none; after make install
	install -D -m 0755 bin/cmmpd-keyd $(DESTDIR)/usr/local/bin/cmmpd-keyd
	install -D -m 0644 configs/cmmpd-keyd.service $(DESTDIR)/etc/systemd/system/cmmpd-keyd.service
	[ -e $(DESTDIR)/etc/cmmpd/keyd.toml ] || install -D -m 0644 configs/keyd.toml $(DESTDIR)/etc/cmmpd/keyd.toml

install-witness: build  ## on the auditor's machine: program, unit and user of the witness, and its configuration, if there is none
	install -D -m 0755 bin/cmmpd $(DESTDIR)/usr/local/bin/cmmpd
	install -D -m 0644 configs/cmmpd-witness.service $(DESTDIR)/etc/systemd/system/cmmpd-witness.service
	install -D -m 0644 configs/cmmpd-witness.sysusers $(DESTDIR)/usr/lib/sysusers.d/cmmpd-witness.conf
	[ -e $(DESTDIR)/etc/cmmpd-witness/witness.toml ] || install -D -m 0644 configs/witness.toml $(DESTDIR)/etc/cmmpd-witness/witness.toml
	@[ -n "$(DESTDIR)" ] || systemd-sysusers cmmpd-witness.conf

demo: build         ## build, then walk through the main job (ARGS="--once" ends afterwards)
	bin/cmmpd demo $(ARGS)

test:               ## install what the tests need, then run them
	test/peers.sh
	CMMPD_NEED_PEERS=1 go test ./...
	cd test/tessera && go test -timeout 5m ./...

fips:               ## the tests again with Go's FIPS 140-3 module in FIPS mode
	CMMPD_NEED_PEERS=1 GODEBUG=fips140=on go test -count=1 ./...

lint:               ## gofumpt, vet, staticcheck
	@out=$$($(GOFUMPT) -l .); [ -z "$$out" ] || { echo "gofumpt would change:"; echo "$$out"; exit 1; }
	go vet ./...
	cd test/tessera && go vet ./...
	$(STATICCHECK) ./...

fuzz:               ## every fuzz target, FUZZTIME each (60s)
	test/fuzz.sh $(FUZZTIME)

bench:              ## Go benchmarks (BENCHTIME=2s); cost against size, SCALE=100000 messages and a tenth as many accounts (full: 1,000,000 and 100,000); memory
	go test -run '^$$' -bench . -benchtime $(BENCHTIME) ./...
	test/bench/scale.sh $(SCALE)
	test/bench/idle.sh

e2e:                ## the heavy ones too: kill and power-cut rounds (CMMPD_KILL_ROUNDS=10, CMMPD_POWER_ROUNDS=3), full disks, Postfix, mail programs
	test/peers.sh heavy
	CMMPD_NEED_PEERS=1 go test -count=1 -timeout 60m -tags e2e ./test/...

interop:            ## mail programs and S/MIME peers at work; writes docs/interop.md
	test/peers.sh heavy
	CMMPD_NEED_PEERS=1 CMMPD_INTEROP_DOC=$(CURDIR)/docs/interop.md go test -count=1 -timeout 20m -tags e2e ./test/interop
