# Lists the recipes.
default:
    @just --list

# Formatting and lints: seconds after the first build, no broker.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings
    RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --document-private-items

# Every check and every test, on brokers that it installs and starts.
test:
    ./tests/run

# The tests whose names contain PATTERN, on brokers that it installs and starts.
test-only PATTERN:
    ./tests/run {{PATTERN}}

# The tests that need no broker.
test-quick:
    cargo test --workspace --lib --bins
    cargo test --workspace --test architecture --test model --test simulation

# A million seeds of each walk of the core's simulation; about half an hour.
nightly:
    LONGHAUL_SIMULATIONS=1000000 cargo test --package longhaul-delivery --test simulation

# Brokers for a shell: `just brokers /tmp/brokers && . /tmp/brokers/env`. Stop them with
# `just brokers-stop`.
brokers DIR:
    tests/brokers start {{DIR}}

brokers-stop DIR:
    tests/brokers stop {{DIR}}

# Broker, autoscaled service and bridge on this machine.
demo *ARGS:
    cargo run -- demo {{ARGS}}

# Writes the generated files again: the JSON Schema, docs/configuration.md and the snapshots.
generate:
    cargo run -q -- schema > config/schema.json
    cargo run -q -- schema --markdown > docs/configuration.md
    INSTA_UPDATE=always cargo test -q --test it snapshots

# `just bench throughput`, `just bench tracker`.
bench NAME *ARGS:
    ./benches/run {{NAME}} {{ARGS}}

# Licenses, advisories, sources and duplicate versions of the dependencies.
deny:
    cargo deny --workspace check
