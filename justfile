# Lists the recipes.
default:
    @just --list

# Checks formatting, lints and documentation: seconds after the first build, without a broker.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --document-private-items

# Runs every check and every test, on brokers that it installs and starts.
test:
    ./tests/run

# Runs the tests whose names contain PATTERN, on brokers that it installs and starts.
test-only PATTERN:
    ./tests/run {{PATTERN}}

# Runs the tests that need no broker.
test-quick:
    cargo test --workspace --lib --bins
    cargo test --workspace --test architecture --test model --test simulation --test rules

# Runs a million seeds of each walk of the core's simulation, which takes some minutes.
nightly:
    LONGHAUL_SIMULATIONS=1000000 cargo test --package longhaul-delivery --test simulation

# Starts brokers for a shell: `just brokers /tmp/brokers && . /tmp/brokers/env`.
brokers DIR:
    tests/brokers start {{DIR}}

# Stops the brokers of `just brokers DIR`.
brokers-stop DIR:
    tests/brokers stop {{DIR}}

# Runs broker, autoscaled service and bridge on this machine.
demo *ARGS:
    cargo run -- demo {{ARGS}}

# Writes the generated files again: the JSON Schema, the references in docs/ and the snapshots.
generate:
    cargo run -q -- schema > config/schema.json
    cargo run -q -- schema --markdown > docs/configuration.md
    cargo run -q -- schema --metrics > docs/metrics.md
    cargo run -q -- schema --openapi > docs/openapi.json
    INSTA_UPDATE=always cargo test -q --test it snapshots

# Runs a benchmark: `just bench throughput` or `just bench tracker`.
bench NAME *ARGS:
    ./benches/run {{NAME}} {{ARGS}}

# Checks licenses, advisories, sources and duplicate versions of the dependencies.
deny:
    cargo deny --workspace check

# It takes hours, and needs `cargo install cargo-mutants`. MUTANTS.md beside the code explains the
# known survivors.
# Mutates the core, the tracker and the metadata, and lists the mutants that no test finds.
mutants *ARGS:
    LONGHAUL_SIMULATIONS=2000 cargo mutants --package longhaul-delivery --output target/mutants-core {{ARGS}} -- --lib --test simulation --test rules
    cargo mutants --package longhaul --file src/source/kafka/tracker.rs --file src/source/kafka/metadata.rs --output target/mutants-kafka {{ARGS}} -- --lib kafka::

# It needs `cargo install cargo-fuzz`. The variable lets the pinned compiler take the flags of a
# nightly one.
# Fuzzes TARGET (metadata, event, configuration, wire, identity) for SECONDS.
fuzz TARGET SECONDS="600":
    RUSTC_BOOTSTRAP=1 cargo fuzz run --sanitizer none {{TARGET}} -- -max_total_time={{SECONDS}}
